//! The sandbox of every process of the host, in two halves.
//!
//! `init` uses the outer half to start a process in its profile (user, namespaces, Landlock, system-call
//! filter, descriptors); the process itself uses [`inherited`] to take what it was given. Whatever step
//! fails, the process does not start: there is no weaker mode.
#![expect(unsafe_code, reason = "descriptors by number, namespaces and fork have no safe interface")]

pub mod inherited;
