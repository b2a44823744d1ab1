//! Hands the linker its script, for the machine without an operating system alone.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=layout.ld");
    let of_none = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "none");
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&folder).join("layout.ld");
    if of_none {
        for argument in
            [format!("-T{}", script.display()).as_str(), "--no-pie", "-znorelro", "--build-id=none"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
