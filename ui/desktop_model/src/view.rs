//! What is to be drawn, complete: words, colours and rectangles. Whoever draws it decides nothing.

use crate::geometry::{Rect, Size};
use crate::pad::recovery::{GROUP_DIGITS, GroupState};
use crate::pad::{CardSign, Digits, RecoveryKey};
use crate::scale::Scale;

/// The whole picker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The display.
    pub display: Size,
    /// Physical pixels per logical pixel.
    pub scale: Scale,
    /// The strip on top.
    pub panel: PanelView,
    /// The tiles of the page.
    pub tiles: Vec<TileView>,
    /// In place of tiles when there are none.
    pub empty: Option<String>,
    /// The bar at the bottom.
    pub bar: BarView,
    /// Over all of it.
    pub front: Option<FrontView>,
}

/// The strip on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelView {
    /// Where.
    pub rect: Rect,
    /// The policy's name.
    pub policy: String,
    /// The time of day.
    pub clock: String,
    /// The uplink in words, or that `zoned` cannot be reached.
    pub uplink: String,
    /// How the uplink is.
    pub uplink_level: Level,
    /// Show the DEMO badge.
    pub demo: bool,
    /// Locks the display.
    pub lock: ButtonView,
    /// Changes the display's PIN, where it has one.
    pub screen_pin: Option<ButtonView>,
}

/// How good or bad something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing to say.
    #[default]
    Quiet,
    /// As it should be.
    Good,
    /// Under way, or worth a look.
    Attention,
    /// Broken.
    Bad,
}

/// The sign beside a state's word; each has its own shape, so that colour is not needed to tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symbol {
    /// A hollow square.
    #[default]
    Stopped,
    /// Three dots.
    Busy,
    /// A triangle that points right.
    Running,
    /// A cross.
    Failed,
    /// A padlock.
    Locked,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileView {
    /// The zone's index in the status.
    pub zone: usize,
    /// Where.
    pub rect: Rect,
    /// The zone's name for the user.
    pub label: String,
    /// The zone's colour.
    pub rgb: [u8; 3],
    /// The state in one or two words.
    pub phase: String,
    /// The state's sign.
    pub symbol: Symbol,
    /// How the state is.
    pub level: Level,
    /// Which of the three dots of [`Symbol::Busy`] is bright.
    pub beat: u8,
    /// Why it failed or stopped; may be empty.
    pub reason: String,
    /// The tunnel in words.
    pub tunnel: String,
    /// How the tunnel is.
    pub tunnel_level: Level,
    /// Why the tunnel is down, in place of the bytes; may be empty.
    pub tunnel_reason: String,
    /// Bytes in and out; empty where there is no network, or none now.
    pub traffic: String,
    /// Bytes moved just now.
    pub moving: bool,
    /// What a touch does.
    pub hint: String,
    /// A padlock in the band: the zone opens with a PIN.
    pub padlock: bool,
    /// Being touched.
    pub pressed: bool,
    /// Shown from memory: `zoned` cannot be reached.
    pub stale: bool,
    /// Shows the public key of its tunnel, where it has one.
    pub key: Option<ButtonView>,
    /// Asks whether to stop it, where it is locked.
    pub end: Option<ButtonView>,
    /// The stop question, in place of the lines below the state.
    pub question: Option<QuestionView>,
}

/// "Stop this zone?"
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionView {
    /// The question.
    pub text: String,
    /// Stops the zone.
    pub stop: Rect,
    /// The stop and lock buttons react; a moment after the question appeared.
    pub armed: bool,
    /// The stop button is being touched.
    pub stop_pressed: bool,
    /// Locks the zone, where it runs.
    pub lock: Option<Rect>,
    /// The lock button is being touched.
    pub lock_pressed: bool,
    /// Closes the question.
    pub keep: Rect,
    /// The keep button is being touched.
    pub keep_pressed: bool,
}

/// The bar at the bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarView {
    /// Where.
    pub rect: Rect,
    /// Where the words are.
    pub notice: Rect,
    /// The process or zone that the notice is about; may be empty.
    pub subject: String,
    /// The sentence.
    pub text: String,
    /// How bad it is.
    pub level: Level,
    /// The button that dismisses the notice.
    pub dismiss: Option<Rect>,
    /// The dismiss button is being touched.
    pub dismiss_pressed: bool,
    /// The words are being touched.
    pub pressed: bool,
    /// Page buttons and "1/2" when there are several pages.
    pub pages: Option<PagesView>,
}

/// Page buttons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesView {
    /// To the previous page.
    pub previous: Rect,
    /// To the next page.
    pub next: Rect,
    /// The page shown, from 1.
    pub page: usize,
    /// How many there are.
    pub pages: usize,
}

/// What covers the whole display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontView {
    /// The PIN pad.
    Pad(PadView),
    /// Why a zone was not opened.
    Card(CardView),
    /// A new recovery key.
    Made(MadeView),
    /// The public key of a zone's tunnel.
    Tunnel(TunnelKeyView),
    /// The display is locked.
    Lock(LockView),
}

/// The PIN pad. It says how many digits of a PIN were typed, never which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadView {
    /// Width of the frame in the zone's colour.
    pub frame: i32,
    /// The band in the zone's colour.
    pub band: Rect,
    /// The zone's colour.
    pub rgb: [u8; 3],
    /// The zone's name for the user.
    pub label: String,
    /// Where headline, dots and message are.
    pub words: Rect,
    /// What is asked for.
    pub headline: String,
    /// So many digits are needed.
    pub needed: usize,
    /// So many were typed.
    pub typed: usize,
    /// The colour of the key that goes on.
    pub onward_rgb: [u8; 3],
    /// In place of dots, the groups of a recovery key in clear; empty for a PIN.
    pub groups: Vec<GroupView>,
    /// In place of dots while the PIN is checked: which of the three dots of [`Symbol::Busy`] is bright.
    pub busy: Option<u8>,
    /// The sentence below the dots; may be empty.
    pub message: String,
    /// How bad it is.
    pub level: Level,
    /// The ten digits.
    pub places: Vec<KeyView>,
    /// Takes the last digit away; without words.
    pub back: KeyView,
    /// Sends the PIN.
    pub go: KeyView,
    /// Closes the pad.
    pub cancel: KeyView,
    /// Changes the PIN; absent where there is none to be changed now.
    pub change: Option<ButtonView>,
}

/// Why a zone was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardView {
    /// Width of the frame in the zone's colour.
    pub frame: i32,
    /// The band in the zone's colour.
    pub band: Rect,
    /// The zone's colour.
    pub rgb: [u8; 3],
    /// The zone's name for the user.
    pub label: String,
    /// Where sign and words are.
    pub words: Rect,
    /// The sign.
    pub sign: CardSign,
    /// How bad it is.
    pub level: Level,
    /// What it is, in a line.
    pub headline: String,
    /// What happened.
    pub reason: String,
    /// What to do.
    pub advice: String,
    /// Closes the card.
    pub leave: ButtonView,
    /// Tries once more or asks for the recovery key; absent where neither helps, or not now.
    pub onward: Option<ButtonView>,
    /// That button's colour.
    pub onward_rgb: [u8; 3],
}

/// A new recovery key, to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeView {
    /// Width of the frame.
    pub frame: i32,
    /// The band.
    pub band: Rect,
    /// Their colour.
    pub rgb: [u8; 3],
    /// The colour of the button that goes on.
    pub onward_rgb: [u8; 3],
    /// What it is about.
    pub label: String,
    /// Where headline and message are, above and below the rest.
    pub words: Rect,
    /// What to do.
    pub headline: String,
    /// While `zoned` is waited for: which of the three dots of [`Symbol::Busy`] is bright.
    pub busy: Option<u8>,
    /// The sentence at the end; may be empty.
    pub message: String,
    /// How bad it is.
    pub level: Level,
    /// The key in digits; empty while there is none.
    pub groups: Vec<GroupView>,
    /// Where they are.
    pub groups_at: Rect,
    /// The key as a QR code.
    pub code: Option<RecoveryKey>,
    /// Where that is, with its quiet zone: a square.
    pub code_at: Rect,
    /// Closes it.
    pub leave: ButtonView,
    /// It was written down.
    pub written: Option<ButtonView>,
}

/// The public key of a zone's tunnel, to be photographed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelKeyView {
    /// Width of the frame in the zone's colour.
    pub frame: i32,
    /// The band in the zone's colour.
    pub band: Rect,
    /// The zone's colour.
    pub rgb: [u8; 3],
    /// The zone's name for the user.
    pub label: String,
    /// Where headline, code and key are.
    pub words: Rect,
    /// What it is.
    pub headline: String,
    /// The key in base64.
    pub key: String,
    /// Where it is, below the code.
    pub key_at: Rect,
    /// Where the key's QR code is, with its quiet zone: a square.
    pub code_at: Rect,
    /// Closes it.
    pub leave: ButtonView,
}

/// A locked display. It tells nothing of any zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockView {
    /// The time of day.
    pub clock: String,
    /// That it is locked.
    pub headline: String,
    /// Why it cannot be unlocked now, or did not unlock; may be empty.
    pub message: String,
    /// How bad that is.
    pub level: Level,
    /// What a touch does; empty where it does nothing.
    pub hint: String,
    /// While it is being unlocked: which of the three dots of [`Symbol::Busy`] is bright.
    pub busy: Option<u8>,
    /// Being touched.
    pub pressed: bool,
}

/// A group of a recovery key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// As far as it was typed.
    pub digits: Digits<GROUP_DIGITS>,
    /// How it is.
    pub state: GroupState,
}

/// A key of the pad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub button: ButtonView,
    /// It does nothing now.
    pub dull: bool,
}

/// A button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ButtonView {
    /// Where.
    pub rect: Rect,
    /// Its words.
    pub words: String,
    /// Being touched.
    pub pressed: bool,
}
