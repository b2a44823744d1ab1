//! zoned

fn main() {}
