//! The whole firmware on a machine of vectors: memory, mailbox, vTPM.

pub(crate) mod fake;
mod flow;
mod vtpm;
