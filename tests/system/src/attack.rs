//! What an attacker with root inside a zone sends, and what a victim listens for.

pub mod frames;
pub mod sockets;
