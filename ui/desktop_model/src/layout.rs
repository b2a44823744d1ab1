//! Where everything is on a display of any size and scale.
//!
//! From top to bottom: the panel strip, the tiles of one page, the notice bar. Tiles keep the policy's order and
//! fill rows from the left. Zones that do not fit at their least size go to further pages.

use crate::geometry::{Rect, Size};
use crate::scale::Scale;

/// The least side of anything that can be touched, in logical pixels.
pub const TARGET: i32 = 48;

/// The smallest display that the layout is made for, in logical pixels.
pub const LEAST_DISPLAY: Size = Size { width: 320, height: 240 };

const PANEL: i32 = 56;
const BAR: i32 = 64;
const LEAST_TILE: Size = Size { width: 232, height: 208 };
const MOST_TILE: Size = Size { width: 560, height: 380 };

/// Geometry of one page of the picker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The whole display.
    pub display: Size,
    /// Physical pixels per logical pixel.
    pub scale: Scale,
    /// The strip on top.
    pub panel: Rect,
    /// Locks the display; at the strip's end.
    pub lock: Rect,
    /// Changes the display's PIN; beside it.
    pub screen_pin: Rect,
    /// One rectangle for each zone of the page.
    pub tiles: Vec<Rect>,
    /// Index of the zone in the first tile.
    pub first_zone: usize,
    /// The page shown, from 0.
    pub page: usize,
    /// How many pages there are, at least 1.
    pub pages: usize,
    /// The bar at the bottom.
    pub bar: Rect,
    /// The notice's words.
    pub notice: Rect,
    /// Dismisses the notice.
    pub dismiss: Rect,
    /// To the previous page; absent with one page.
    pub previous: Option<Rect>,
    /// To the next page; absent with one page.
    pub next: Option<Rect>,
}

/// Columns and rows of tiles.
#[derive(Clone, Copy)]
struct Grid {
    columns: i32,
    rows: i32,
}

impl Layout {
    /// The layout of `page` for `zones` zones; a page beyond the last is the last.
    #[must_use]
    pub fn new(display: Size, scale: Scale, zones: usize, page: usize) -> Self {
        let px = |logical| scale.of(logical);
        let panel = Rect { x: 0, y: 0, width: display.width, height: px(PANEL) };
        let bar = Rect { x: 0, y: display.height - px(BAR), width: display.width, height: px(BAR) };
        let roomy = display.width.min(display.height) >= px(480);
        let margin = if roomy { px(24) } else { px(8) };
        let area = Rect::from_edges(0, panel.bottom(), display.width, bar.y).inset(margin);

        let grid = choose_grid(area, scale, margin, zones);
        let per_page = usize::try_from(grid.columns * grid.rows).unwrap_or(1).max(1);
        let pages = zones.div_ceil(per_page).max(1);
        let page = page.min(pages - 1);
        let first_zone = page * per_page;
        let on_page = zones.saturating_sub(first_zone).min(per_page);

        let gap = px(8);
        let button = px(TARGET);
        let in_panel = |right: i32, width: i32| Rect {
            x: right - width,
            y: (panel.height - button) / 2,
            width,
            height: button,
        };
        let lock = in_panel(panel.right() - gap, button);
        let screen_pin = in_panel(lock.x - gap, px(64));
        let top = bar.y + (bar.height - button) / 2;
        let at = |x| Rect { x, y: top, width: button, height: button };
        let next = (pages > 1).then(|| at(bar.right() - gap - button));
        let previous = next.map(|next| at(next.x - gap - button));
        let dismiss_right = previous.map_or(bar.right(), |previous| previous.x);
        let dismiss = at(dismiss_right - gap - button);
        let notice = Rect::from_edges(bar.x + margin, bar.y, dismiss.x - gap, bar.bottom());
        let tiles = place_tiles(area, grid, scale, margin, on_page);
        Self {
            display,
            scale,
            panel,
            lock,
            screen_pin,
            tiles,
            first_zone,
            page,
            pages,
            bar,
            notice,
            dismiss,
            previous,
            next,
        }
    }

    /// The three buttons of a stop question in `tile`: stop, lock, keep.
    #[must_use]
    pub fn question_buttons(&self, tile: Rect) -> [Rect; 3] {
        let pad = self.scale.of(12).min(tile.width / 16);
        let height = self.scale.of(56).min(tile.height - self.scale.of(8)).max(self.scale.of(TARGET));
        let top = (tile.bottom() - pad.min(tile.height - height) - height).max(tile.y);
        let width = (tile.width - 4 * pad) / 3;
        let at = |x| Rect { x, y: top, width, height };
        [at(tile.x + pad), at(tile.x + 2 * pad + width), at(tile.right() - pad - width)]
    }

    /// The small button in `tile` that shows its tunnel's key: at the end of the state's line.
    #[must_use]
    pub fn key_button(&self, tile: Rect) -> Rect {
        let px = |logical| self.scale.of(logical);
        // The state's line is below the band, as far as the tile spreads its lines.
        let gap = ((tile.height - px(216)) / 6).min(px(22)).max(px(4));
        let (width, height) = (px(56), px(TARGET));
        let line = tile.y + px(64) + gap.max(px(8)) + px(20);
        // The least display has not even room for all of it below the band.
        let y = (line - height / 2).min(tile.bottom() - height - px(4));
        Rect { x: tile.right() - px(12) - width, y, width, height }
    }

    /// The small button in `tile` that asks whether to stop a locked zone: beside [`Self::key_button`], or in a narrow
    /// tile in its corner.
    #[must_use]
    pub fn end_button(&self, tile: Rect) -> Rect {
        let px = |logical| self.scale.of(logical);
        let key = self.key_button(tile);
        if tile.width < px(300) && tile.height >= px(208) {
            return Rect { y: tile.bottom() - px(12) - key.height, ..key };
        }
        Rect { x: key.x - px(8) - key.width, ..key }
    }
}

/// The grid that shows the most zones, and of those the one with the largest tiles.
fn choose_grid(area: Rect, scale: Scale, gap: i32, zones: usize) -> Grid {
    let zones = i32::try_from(zones).unwrap_or(i32::MAX).max(1);
    let most = |room: i32, least: i32| ((room + gap) / (scale.of(least) + gap)).max(1);
    let most_columns = most(area.width, LEAST_TILE.width);
    let most_rows = most(area.height, LEAST_TILE.height);
    let mut best = (Grid { columns: 1, rows: 1 }, (0, 0, i32::MIN, i32::MIN));
    for columns in 1..=most_columns.min(zones) {
        let rows = most_rows.min((zones + columns - 1) / columns);
        let grid = Grid { columns, rows };
        let size = tile_size(area, grid, scale, gap);
        // Of equal capacity, the tile whose shorter side is clearly longer reads best; then the grid with fewer
        // holes, then the one that is as wide or tall as the display.
        let shorter = size.width.min(size.height) / scale.of(TARGET);
        let holes = (columns * rows - zones).max(0);
        let misfit = (columns * area.height - rows * area.width).abs();
        let score = (zones.min(columns * rows), shorter, -holes, -misfit);
        if score > best.1 {
            best = (grid, score);
        }
    }
    best.0
}

fn tile_size(area: Rect, grid: Grid, scale: Scale, gap: i32) -> Size {
    let width = (area.width - gap * (grid.columns - 1)) / grid.columns;
    let height = (area.height - gap * (grid.rows - 1)) / grid.rows;
    Size { width: width.min(scale.of(MOST_TILE.width)), height: height.min(scale.of(MOST_TILE.height)) }
}

fn place_tiles(area: Rect, grid: Grid, scale: Scale, gap: i32, count: usize) -> Vec<Rect> {
    let size = tile_size(area, grid, scale, gap);
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let columns = grid.columns.min(count.max(1));
    let rows = (count + columns - 1) / columns;
    let left = area.x + (area.width - columns * size.width - (columns - 1) * gap) / 2;
    let top = area.y + (area.height - rows * size.height - (rows - 1).max(0) * gap) / 2;
    (0..count)
        .map(|index| Rect {
            x: left + index % columns * (size.width + gap),
            y: top + index / columns * (size.height + gap),
            width: size.width,
            height: size.height,
        })
        .collect()
}
