//! What the desktop shows and what a touch on it means, as plain data.
//!
//! [`picker::Picker`] is fed statuses, the state of the connection to `zoned` and pointer events, each with
//! the time; it answers with [`picker::Action`]s and draws itself as a [`view::View`]: words, colours and
//! rectangles in pixels of the display. [`damage`] holds the lists of rectangles that still have to reach a
//! display buffer. [`pad`] is what asks for a PIN or a recovery key, and says why a zone was not opened.
//!
//! This crate never does input or output, reads no clock, and knows neither Slint nor DRM nor Varlink.

#![forbid(unsafe_code)]

pub mod damage;
pub mod geometry;
pub mod layout;
pub mod pad;
pub mod picker;
pub mod pointer;
pub mod scale;
pub mod status;
pub mod text;
pub mod view;

#[cfg(test)]
mod tests;
