//! Points, sizes and rectangles in physical pixels; the origin is the display's top left corner.

/// The largest width or height that the desktop deals with; keeps every product below within `i32`.
pub const MAX_SIDE: i32 = 16_384;

/// A position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: i32,
    /// Pixels from the top edge.
    pub y: i32,
}

/// Width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
}

/// A rectangle; right and bottom edges are exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: i32,
    /// Top edge.
    pub y: i32,
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
}

impl Size {
    /// The rectangle of this size at the origin.
    #[must_use]
    pub fn rect(self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }
}

impl Rect {
    /// A rectangle from its edges; an inverted one is empty.
    #[must_use]
    pub fn from_edges(left: i32, top: i32, right: i32, bottom: i32) -> Self {
        Self { x: left, y: top, width: (right - left).max(0), height: (bottom - top).max(0) }
    }

    /// First column to the right of the rectangle.
    #[must_use]
    pub fn right(self) -> i32 {
        self.x + self.width
    }

    /// First row below the rectangle.
    #[must_use]
    pub fn bottom(self) -> i32 {
        self.y + self.height
    }

    /// Covers no pixel.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.width <= 0 || self.height <= 0
    }

    /// Pixels covered.
    #[must_use]
    pub fn area(self) -> i64 {
        if self.is_empty() { 0 } else { i64::from(self.width) * i64::from(self.height) }
    }

    /// The pixel at `point` belongs to the rectangle.
    #[must_use]
    pub fn contains(self, point: Point) -> bool {
        (self.x..self.right()).contains(&point.x) && (self.y..self.bottom()).contains(&point.y)
    }

    /// Every pixel of `other` belongs to this rectangle.
    #[must_use]
    pub fn encloses(self, other: Self) -> bool {
        other.is_empty()
            || (other.x >= self.x
                && other.y >= self.y
                && other.right() <= self.right()
                && other.bottom() <= self.bottom())
    }

    /// The pixels common to both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self::from_edges(
            self.x.max(other.x),
            self.y.max(other.y),
            self.right().min(other.right()),
            self.bottom().min(other.bottom()),
        )
    }

    /// The smallest rectangle that encloses both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        Self::from_edges(
            self.x.min(other.x),
            self.y.min(other.y),
            self.right().max(other.right()),
            self.bottom().max(other.bottom()),
        )
    }

    /// The rectangle without a border of `by` pixels on each side.
    #[must_use]
    pub fn inset(self, by: i32) -> Self {
        Self::from_edges(self.x + by, self.y + by, self.right() - by, self.bottom() - by)
    }
}
