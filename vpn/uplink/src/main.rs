//! uplink

fn main() {}
