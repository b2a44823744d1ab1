//! desktop

fn main() {}
