//! Finds the picker's tiles on the screen, by the same geometry that the desktop draws with.

use anyhow::{Context, Result};
use control_api::Status;
use desktop_model::geometry::{Rect, Size};
use desktop_model::layout::Layout;
use desktop_model::scale::Scale;
use harness::{Colour, Machine, Picture};

/// The order of the demo policy's zones.
const DEMO_ZONES: [&str; 3] = ["office", "research", "vault"];

fn layout(machine: &Machine, zones: usize) -> Result<Layout> {
    let (width, height) = machine.size();
    let size = Size { width: i32::try_from(width)?, height: i32::try_from(height)? };
    Ok(Layout::new(size, Scale::choose(size, None), zones, 0))
}

/// Where a zone's tile is.
fn tile(machine: &Machine, zone: &str) -> Result<Rect> {
    let place = DEMO_ZONES.iter().position(|name| *name == zone).with_context(|| {
        format!("the demo policy has no zone {zone:?}; allowed are {}", DEMO_ZONES.join(", "))
    })?;
    layout(machine, DEMO_ZONES.len())?.tiles.get(place).copied().context("the tile is on another page")
}

/// Waits until every zone's tile stands on the screen.
///
/// # Errors
/// It does not.
pub fn wait_for_tiles(machine: &Machine, status: &Status) -> Result<()> {
    let tiles = layout(machine, status.zones.len())?.tiles;
    machine.look_until("picker", "a tile for each zone", machine.within(60), |picture| {
        tiles.iter().all(|tile| is_drawn(picture, *tile))
    })?;
    Ok(())
}

/// A tile is drawn when it has several colours: frame, words and ground.
fn is_drawn(picture: &Picture, tile: Rect) -> bool {
    let (Ok(x), Ok(y)) = (u32::try_from(tile.x), u32::try_from(tile.y)) else { return false };
    let (Ok(width), Ok(height)) = (u32::try_from(tile.width), u32::try_from(tile.height)) else { return false };
    let mut colours: Vec<Colour> = Vec::new();
    for row in (y..y + height).step_by(3) {
        for column in (x..x + width).step_by(3) {
            match picture.at(column, row) {
                Some(colour) if !colours.contains(&colour) => colours.push(colour),
                _ => {}
            }
            if colours.len() > 4 {
                return true;
            }
        }
    }
    false
}

/// Touches the middle of a zone's tile, by the touch screen.
///
/// # Errors
/// No such zone, or QEMU refuses.
pub fn touch_tile(machine: &Machine, zone: &str) -> Result<()> {
    let tile = tile(machine, zone)?;
    let x = u32::try_from(tile.x + tile.width / 2)?;
    let y = u32::try_from(tile.y + tile.height / 2)?;
    machine.tap(x, y)?;
    Ok(())
}

/// Waits until a zone's tile has settled: two looks at it are alike but for the traffic line.
///
/// # Errors
/// The screen cannot be read.
pub fn wait_for_running(machine: &Machine, zone: &str) -> Result<()> {
    let tile = tile(machine, zone)?;
    machine.look_until("running", "the running zone's tile", machine.within(20), |picture| {
        is_drawn(picture, tile)
    })?;
    Ok(())
}
