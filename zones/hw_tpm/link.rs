//! How packages that speak to the machine's TPM are linked: a module of their build scripts.

/// Has this package linked against the Debian 13 libraries that `./bulkhead` unpacks. A program that is `to_run_here` gets
/// these libraries and their loader, too; one for the image finds its own there.
pub(crate) fn with_debian(to_run_here: bool) {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let root = std::path::Path::new(&manifest).join("../../build/sysroot");
    let root = root.canonicalize().unwrap_or(root);
    let root = root.display();
    let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
    let mut arguments = vec![format!("--sysroot={root}"), format!("-Wl,-rpath-link,{libraries}")];
    if to_run_here {
        arguments.push(format!("-Wl,--dynamic-linker={root}/usr/lib64/ld-linux-x86-64.so.2"));
        // Libraries find their own libraries, too, only by the old kind of run path.
        arguments.push("-Wl,--disable-new-dtags".to_owned());
        arguments.push(format!("-Wl,-rpath,{libraries}"));
    }
    for argument in arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
