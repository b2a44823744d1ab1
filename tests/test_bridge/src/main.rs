//! test_bridge

fn main() {}
