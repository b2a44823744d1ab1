//! The making of a recovery key as views.

use super::{Check, Making, Stage, written};
use crate::geometry::Rect;
use crate::pad::recovery::{GROUPS, GroupState, RecoveryKey};
use crate::pad::{CardSign, Digits, MACHINE_RGB, ONWARD_RGB, Order, PadLayout, Place, Target};
use crate::picker::{BEAT, Millis};
use crate::scale::Scale;
use crate::text;
use crate::view::{ButtonView, CardView, FrontView, GroupView, KeyView, Level, MadeView, PadView};

const LABEL: &str = "This machine";
const SENTENCE: usize = 300;

struct Words<'a> {
    sign: CardSign,
    level: Level,
    headline: &'a str,
    reason: &'a str,
    advice: &'a str,
    leave: &'a str,
    onward: Option<&'a str>,
}

impl Making {
    /// What is to be drawn. `pressed`: what is being touched; `online`: requests can be made.
    pub(crate) fn view(
        &self,
        now: Millis,
        layout: &PadLayout,
        scale: Scale,
        pressed: Option<Target>,
        online: bool,
    ) -> FrontView {
        let hand = Hand { layout, pressed };
        match &self.stage {
            Stage::Ask => hand.card(&Words {
                sign: CardSign::Lock,
                level: Level::Attention,
                headline: "Make a recovery key?",
                reason: "It opens your zones when this machine's TPM breaks or is cleared, or when a PIN is \
                         forgotten. It is shown once, and kept nowhere but on your paper.",
                advice: "Have pen and paper ready, and be alone with the screen. Keep the paper away from this \
                         machine: who has both can open every zone.",
                leave: "Later",
                onward: online.then_some("Make it"),
            }),
            Stage::Failed { reason } => hand.card(&Words {
                sign: CardSign::Warning,
                level: Level::Attention,
                headline: "The recovery key was not noted",
                reason,
                advice: "Try again. A new key is shown then, and what you wrote down just now is good for nothing.",
                leave: "Back",
                onward: online.then_some("Try again"),
            }),
            Stage::Done => hand.card(&Words {
                sign: CardSign::Lock,
                level: Level::Good,
                headline: "The recovery key is noted",
                reason: "It is not shown again. A paper with an earlier key is good only for zones that are not \
                         opened from now on.",
                advice: "Open each of your zones once: a zone is kept for this key from its next opening on.",
                leave: "Close",
                onward: None,
            }),
            Stage::Waiting => hand.waiting(scale, "Making a recovery key...", "Cancel", now),
            Stage::Noting => hand.waiting(scale, "Noting the recovery key...", "Close", now),
            Stage::Shown { key, wrong } => hand.shown(scale, key, *wrong),
            Stage::Check(check) => hand.check(check),
        }
    }
}

struct Hand<'a> {
    layout: &'a PadLayout,
    pressed: Option<Target>,
}

impl Hand<'_> {
    fn button(&self, rect: Rect, words: &str, target: Target) -> ButtonView {
        ButtonView { rect, words: words.to_owned(), pressed: self.pressed == Some(target) }
    }

    fn card(&self, words: &Words<'_>) -> FrontView {
        let layout = self.layout;
        FrontView::Card(CardView {
            frame: layout.frame,
            band: layout.band,
            rgb: MACHINE_RGB,
            label: LABEL.to_owned(),
            words: layout.card,
            sign: words.sign,
            level: words.level,
            headline: words.headline.to_owned(),
            reason: text::ascii(words.reason, SENTENCE),
            advice: words.advice.to_owned(),
            leave: self.button(layout.leave, words.leave, Target::Leave),
            onward: words.onward.map(|onward| self.button(layout.retry, onward, Target::Retry)),
            onward_rgb: ONWARD_RGB,
        })
    }

    /// The machine's answer is waited for.
    fn waiting(&self, scale: Scale, headline: &str, leave: &str, now: Millis) -> FrontView {
        FrontView::Made(MadeView {
            headline: headline.to_owned(),
            busy: Some(u8::try_from(now / BEAT % 3).unwrap_or_default()),
            leave: self.button(self.layout.leave, leave, Target::Leave),
            ..self.made(scale)
        })
    }

    fn shown(&self, scale: Scale, key: &RecoveryKey, wrong: Option<usize>) -> FrontView {
        let place = written(self.layout);
        // Not every display has room for the sentence.
        let words = if place.width < scale.of(300) { "Written down" } else { "I have written it down" };
        let (message, level) = match wrong {
            None => ("On paper, with today's date. A photo of it is the key, too.".to_owned(), Level::Quiet),
            Some(group) => (
                format!("What you typed is not group {}. Compare your paper with it.", group + 1),
                Level::Bad,
            ),
        };
        FrontView::Made(MadeView {
            headline: "Write this recovery key down".to_owned(),
            message,
            level,
            groups: key.views(),
            code: Some(key.clone()),
            written: Some(self.button(place, words, Target::Go)),
            ..self.made(scale)
        })
    }

    fn made(&self, scale: Scale) -> MadeView {
        let layout = self.layout;
        let places = MadePlaces::new(layout.card, scale);
        MadeView {
            frame: layout.frame,
            band: layout.band,
            rgb: MACHINE_RGB,
            onward_rgb: ONWARD_RGB,
            label: LABEL.to_owned(),
            words: layout.card,
            headline: String::new(),
            busy: None,
            message: String::new(),
            level: Level::Quiet,
            groups: Vec::new(),
            groups_at: places.groups,
            code: None,
            code_at: places.code,
            leave: self.button(layout.leave, "Cancel", Target::Leave),
            written: None,
        }
    }

    fn check(&self, check: &Check) -> FrontView {
        let layout = self.layout;
        let key = |rect, words: String, target: Target, dull: bool| KeyView {
            button: ButtonView { rect, words, pressed: self.pressed == Some(target) && !dull },
            dull,
        };
        let places = layout.places.iter().enumerate().map(|(place, rect)| {
            let digit = Order::PLAIN.digit(place).map(|digit| digit.to_string()).unwrap_or_default();
            key(*rect, digit, Target::Place(Place(place)), check.group().is_none())
        });
        let typed = check.typed.count();
        let (message, level) = match check.group() {
            None => ("These groups are right.".to_owned(), Level::Good),
            Some(group) => (format!("Type group {} from your paper.", group + 1), Level::Quiet),
        };
        FrontView::Pad(PadView {
            frame: layout.frame,
            band: layout.band,
            rgb: MACHINE_RGB,
            words: layout.words,
            headline: "Is it on paper?".to_owned(),
            label: LABEL.to_owned(),
            needed: 0,
            typed,
            onward_rgb: ONWARD_RGB,
            groups: (0..GROUPS).map(|group| check.view(group)).collect(),
            busy: None,
            message,
            level,
            places: places.collect(),
            back: key(layout.back, String::new(), Target::Back, typed == 0),
            go: key(layout.go, "Done".to_owned(), Target::Go, check.group().is_some()),
            cancel: key(layout.cancel, "Cancel".to_owned(), Target::Cancel, false),
            change: None,
        })
    }
}

impl Check {
    fn view(&self, group: usize) -> GroupView {
        let nothing = |state| GroupView { digits: Digits::default(), state };
        if self.groups.iter().take(self.right).any(|right| *right == group) {
            return GroupView { digits: self.key.group(group), state: GroupState::Whole };
        }
        if self.group() != Some(group) {
            return nothing(GroupState::Later);
        }
        GroupView { digits: self.typed.clone(), state: GroupState::Current }
    }
}

/// Where groups and code of a shown key are, between headline and message.
struct MadePlaces {
    groups: Rect,
    code: Rect,
}

impl MadePlaces {
    fn new(area: Rect, scale: Scale) -> Self {
        let px = |logical| scale.of(logical);
        let small = area.height < px(280);
        let (head, foot, gap) = if small { (px(28), px(22), px(8)) } else { (px(56), px(40), px(24)) };
        let middle = Rect::from_edges(area.x, area.y + head, area.right(), area.bottom() - foot);
        let side = middle.height.min(middle.width * 9 / 20).max(0);
        let code = Rect { x: middle.right() - side, y: middle.y, width: side, height: side };
        let groups = Rect::from_edges(middle.x, middle.y, code.x - gap, middle.y + side);
        Self { groups, code }
    }
}
