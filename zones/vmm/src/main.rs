//! vmm

fn main() {}
