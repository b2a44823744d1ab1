//! Links this crate's own tests against the Debian 13 libraries that `./bulkhead` unpacks, and lets them run with these.
//! Programs that use the crate choose their loader themselves: they run from the host image.

use std::path::Path;

fn main() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let root = Path::new(&manifest).join("../../build/sysroot");
    let root = root.canonicalize().unwrap_or(root);
    let root = root.display();
    for argument in [
        format!("--sysroot={root}"),
        format!("-Wl,--dynamic-linker={root}/usr/lib64/ld-linux-x86-64.so.2"),
        // Libraries find their own libraries, too, only by the old kind of run path.
        "-Wl,--disable-new-dtags".to_owned(),
        format!("-Wl,-rpath,{root}/usr/lib/x86_64-linux-gnu"),
    ] {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
