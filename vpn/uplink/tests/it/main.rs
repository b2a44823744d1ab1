//! The uplink against a scripted LAN: in this process, and as the real program on a real packet socket.

#[cfg(test)]
mod lan;
#[cfg(test)]
mod observer;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod veth;
