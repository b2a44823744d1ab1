//! vpnd

fn main() {}
