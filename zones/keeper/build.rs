//! Links `keeper` against the Debian 13 libraries that `./bulkhead` unpacks. Its tests run with these, the program that the
//! builder asks for runs with those of the host image.

#[path = "../hw_tpm/link.rs"]
mod link;

/// Set by the builder.
const FOR_THE_IMAGE: &str = "BULKHEAD_IMAGE";

fn main() {
    println!("cargo::rerun-if-env-changed={FOR_THE_IMAGE}");
    link::with_debian(std::env::var_os(FOR_THE_IMAGE).is_none());
}
