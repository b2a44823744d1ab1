//! The desktop process: draws the trusted UI, reads the input devices and asks `zoned` for what the user touched.
//!
//! ```text
//! evdev ─> input::decoder ─> router ─> desktop_model::Picker ─> View ─> scene (Slint, in memory)
//!                                            │    ^                          │ damage
//!                                    Action  v    │ status                   v
//!                                          link (Varlink)              screen (KMS)
//! ```
//!
//! One thread and one poll loop ([`app`]). It never opens a file or device by itself: `init` passes them. It never
//! waits for `zoned`. Slint is built for one thread, so only one thread of a process may touch [`scene`].

pub mod app;
pub mod clock;
pub mod compose;
pub mod convert;
pub mod input;
pub mod link;
pub mod plane;
pub mod router;
pub mod scene;
pub mod screen;
