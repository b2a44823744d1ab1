//! What the host says to a zone's two other halves: the agent inside it and the VMM around it.
//!
//! [`agent`] is the stream between `zoned` and the agent in the guest, over vsock; [`vmm`] is what `zoned`
//! hands to a VMM process and hears from it; [`keeper`] is what it asks of the owner of TPMs; [`login`] is what a start
//! hands to the zone's system, [`keep`] a part of that. Wire types only: no sockets, no clock.

pub mod agent;
pub mod keep;
pub mod keeper;
pub mod login;
pub mod vmm;
