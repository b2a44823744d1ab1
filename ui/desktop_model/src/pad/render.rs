//! The pad and the card as views.

use super::{
    Asked, CardSign, Cause, FEWEST_DIGITS, Pad, PadLayout, Place, RecoveryKey, Remark, Stage, Subject,
    Target, cards,
};
use crate::geometry::Rect;
use crate::picker::{BEAT, Millis};
use crate::text;
use crate::view::{ButtonView, CardView, FrontView, KeyView, Level, PadView};

/// Longest texts from outside that are drawn; the drawing wraps and elides.
const LABEL: usize = 48;
const SENTENCE: usize = 300;

impl Pad {
    /// What is to be drawn. `pressed`: what is being touched; `online`: requests can be made.
    pub(crate) fn view(
        &self,
        now: Millis,
        layout: &PadLayout,
        pressed: Option<Target>,
        online: bool,
    ) -> FrontView {
        let button = |rect: Rect, words: &str, target: Target| ButtonView {
            rect,
            words: words.to_owned(),
            pressed: pressed == Some(target),
        };
        let label = text::ascii(&self.label, LABEL);
        if let Stage::Card { cause, reason } = &self.stage {
            let words = cards::words(*cause, &self.subject);
            let reason = if reason.trim().is_empty() { words.reason } else { reason };
            return FrontView::Card(CardView {
                frame: layout.frame,
                band: layout.band,
                rgb: self.rgb,
                headline: format!("{label} {}", words.headline),
                label,
                words: layout.card,
                sign: words.sign,
                level: sign_level(*cause, words.sign),
                reason: text::ascii(reason, SENTENCE),
                advice: words.advice.to_owned(),
                leave: button(layout.leave, "Back", Target::Leave),
                onward_rgb: self.onward_rgb,
                onward: words
                    .onward
                    .filter(|_| online)
                    .map(|onward| button(layout.retry, onward.words(), onward.target())),
            });
        }
        if self.stage == Stage::Changed {
            return FrontView::Card(CardView {
                frame: layout.frame,
                band: layout.band,
                rgb: self.rgb,
                headline: format!("{label} has another PIN"),
                label,
                words: layout.card,
                sign: CardSign::Lock,
                level: Level::Good,
                reason: "The PIN was changed. The one from before opens nothing any more.".to_owned(),
                advice: "From now on, type the new one.".to_owned(),
                leave: button(layout.leave, "Close", Target::Leave),
                onward_rgb: self.onward_rgb,
                onward: None,
            });
        }
        let busy = self.is_busy();
        let cap = |rect, words: String, target: Target, dull: bool| KeyView {
            button: ButtonView { rect, words, pressed: pressed == Some(target) && !dull },
            dull,
        };
        let places = layout.places.iter().enumerate().map(|(place, rect)| {
            let digit = self.order().digit(place).map(|digit| digit.to_string()).unwrap_or_default();
            cap(*rect, digit, Target::Place(Place(place)), busy)
        });
        let (message, level) = self.message();
        let go = match self.stage {
            Stage::Choose | Stage::Old => "Next",
            Stage::Key if self.pin.is_some() => "Next",
            Stage::Again { .. } if self.key.is_some() => "Open",
            Stage::Again { .. } | Stage::Busy(Asked::Set | Asked::Change) => "Set",
            Stage::Enter | Stage::Key | Stage::Busy(_) | Stage::Card { .. } | Stage::Changed => "Open",
        };
        let key = self.key.as_ref().filter(|_| self.stage == Stage::Key);
        let typed = key.map_or(self.typed.count(), RecoveryKey::count);
        let is_enough = key.map_or(self.typed.is_enough(), RecoveryKey::is_whole);
        let groups = key.map(RecoveryKey::views).unwrap_or_default();
        FrontView::Pad(PadView {
            frame: layout.frame,
            band: layout.band,
            rgb: self.rgb,
            words: layout.words,
            headline: self.headline(match self.subject {
                Subject::Zone(_) => &label,
                Subject::Screen => "this display",
            }),
            label: label.clone(),
            needed: FEWEST_DIGITS,
            typed,
            onward_rgb: self.onward_rgb,
            groups,
            busy: busy.then(|| u8::try_from(now / BEAT % 3).unwrap_or_default()),
            message,
            level,
            places: places.collect(),
            back: cap(layout.back, String::new(), Target::Back, busy || typed == 0),
            go: cap(layout.go, go.to_owned(), Target::Go, busy || !is_enough),
            cancel: cap(layout.cancel, "Cancel".to_owned(), Target::Cancel, busy),
            change: self.offers_change().then(|| button(layout.change, "Change PIN", Target::Change)),
        })
    }

    fn headline(&self, label: &str) -> String {
        match self.stage {
            Stage::Enter | Stage::Card { .. } | Stage::Changed => format!("PIN for {label}"),
            Stage::Old => format!("The old PIN of {label}"),
            // One line, on any display: the band names the zone.
            Stage::Key => "Recovery key".to_owned(),
            Stage::Choose if self.key.is_some() || self.old.is_some() => {
                format!("Choose a new PIN for {label}")
            }
            Stage::Choose => format!("Choose a PIN for {label}"),
            Stage::Again { .. } => "Once more".to_owned(),
            Stage::Busy(Asked::Check) => "Checking the PIN ...".to_owned(),
            Stage::Busy(Asked::Set) => "Setting the PIN ...".to_owned(),
            Stage::Busy(Asked::Change) => "Changing the PIN ...".to_owned(),
            Stage::Busy(Asked::Recover) => "Opening with the recovery key...".to_owned(),
        }
    }

    fn message(&self) -> (String, Level) {
        let quiet = |text: &str| (text.to_owned(), Level::Quiet);
        match (&self.stage, self.remark) {
            (Stage::Busy(_) | Stage::Card { .. } | Stage::Changed, _) => quiet(""),
            (Stage::Key, _) => self.key.as_ref().map(|key| self.key_message(key)).unwrap_or_default(),
            (Stage::Choose, Remark::Different) => {
                ("The two were not the same. Choose again.".to_owned(), Level::Attention)
            }
            (Stage::Choose, _) => quiet(match self.subject {
                Subject::Zone(_) => "6 to 12 digits. You type them at each start of this zone.",
                Subject::Screen => "6 to 12 digits. You type them whenever this display is locked.",
            }),
            (Stage::Again { .. }, _) => quiet("The same digits again."),
            (Stage::Enter | Stage::Old, remark) => {
                let wrong = if remark == Remark::Wrong { "Wrong PIN. " } else { "" };
                let level = if remark == Remark::Wrong { Level::Bad } else { Level::Quiet };
                match self.pin.and_then(|pin| pin.tries_left) {
                    None => (wrong.trim_end().to_owned(), level),
                    Some(1) => {
                        let what = match self.subject {
                            Subject::Zone(_) => "zone",
                            Subject::Screen => "display",
                        };
                        (
                            format!("{wrong}1 try left: one more wrong PIN locks this {what} out."),
                            Level::Attention,
                        )
                    }
                    Some(tries) => (format!("{wrong}{tries} tries left."), level),
                }
            }
        }
    }
}

fn sign_level(cause: Cause, sign: CardSign) -> Level {
    match (cause, sign) {
        (Cause::LockedOut, _) | (_, CardSign::Cross) => Level::Bad,
        (_, CardSign::Lock | CardSign::Warning) => Level::Attention,
    }
}
