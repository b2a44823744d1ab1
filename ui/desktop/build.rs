//! Compiles the picker with its PIN pad and embeds its glyphs, so that the binary needs no font at run time.
//!
//! `BULKHEAD_FONTS` names the folder with `DejaVuSans.ttf` and `DejaVuSans-Bold.ttf`.

use std::error::Error;
use std::path::{Path, PathBuf};

const FOLDER: &str = "/usr/share/fonts/truetype/dejavu";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=BULKHEAD_FONTS");
    let folder = std::env::var_os("BULKHEAD_FONTS").map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for (from, to) in [("DejaVuSans.ttf", "regular.ttf"), ("DejaVuSans-Bold.ttf", "bold.ttf")] {
        copy_font(&folder.join(from), &out.join(to))?;
    }
    let configuration = slint_build::CompilerConfiguration::new()
        .embed_resources(slint_build::EmbedResourcesKind::EmbedForSoftwareRenderer)
        .with_include_paths(vec![out]);
    slint_build::compile_with_config("ui/picker.slint", configuration)?;
    Ok(())
}

fn copy_font(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", from.display());
    std::fs::copy(from, to).map_err(|error| {
        format!("{}: {error} (install fonts-dejavu-core, or set BULKHEAD_FONTS)", from.display())
    })?;
    Ok(())
}
