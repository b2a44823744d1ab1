//! The zone firmware: entered by PVH inside each zone, before its kernel. Its contents come with trusted
//! login; until then the VMM enters the kernel directly.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
