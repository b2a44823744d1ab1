//! The picker as a [`View`].

use super::{ARMING, BEAT, Link, Millis, Picker, Target, can_open};
use crate::geometry::Rect;
use crate::status::{Login, Phase, PinLogin, Tunnel, Zone};
use crate::text;
use crate::view::{BarView, ButtonView, Level, PagesView, PanelView, QuestionView, Symbol, TileView, View};

/// Longest texts from outside that are drawn; the drawing elides to the pixel.
const LABEL: usize = 48;
const SENTENCE: usize = 240;

impl Picker {
    /// What is to be drawn at `now`.
    #[must_use]
    pub fn view(&self, now: Millis) -> View {
        let layout = &self.layout;
        if self.is_locked() {
            return self.locked_view(now);
        }
        let tiles = (layout.first_zone..)
            .zip(&layout.tiles)
            .filter_map(|(index, rect)| Some(self.tile(now, index, *rect, self.zones().get(index)?)))
            .collect::<Vec<_>>();
        View {
            display: layout.display,
            scale: layout.scale,
            panel: self.panel(),
            empty: tiles.is_empty().then(|| self.empty_words()),
            tiles,
            bar: self.bar(),
            front: self.front_view(now),
        }
    }

    /// A locked display shows nothing of what is beneath.
    fn locked_view(&self, now: Millis) -> View {
        let button = |rect| ButtonView { rect, words: String::new(), pressed: false };
        View {
            display: self.layout.display,
            scale: self.layout.scale,
            panel: PanelView {
                rect: self.layout.panel,
                policy: String::new(),
                clock: String::new(),
                uplink: String::new(),
                uplink_level: Level::Quiet,
                demo: false,
                lock: button(self.layout.lock),
                screen_pin: None,
            },
            tiles: Vec::new(),
            empty: None,
            bar: BarView {
                rect: self.layout.bar,
                notice: self.layout.notice,
                subject: String::new(),
                text: String::new(),
                level: Level::Quiet,
                dismiss: None,
                dismiss_pressed: false,
                pressed: false,
                pages: None,
            },
            front: self.front_view(now),
        }
    }

    /// The notice to show: what it is about and the sentence.
    pub(super) fn shown_notice(&self) -> Option<(String, String)> {
        if let Some(own) = &self.own_notice {
            return Some((text::ascii(&own.subject, LABEL), text::ascii(&own.text, SENTENCE)));
        }
        let number = self.newest_notice()?;
        let notice = self.status.as_ref()?.notices.iter().find(|notice| notice.number == number)?;
        Some((text::ascii(&notice.process, LABEL), text::ascii(&notice.text, SENTENCE)))
    }

    fn empty_words(&self) -> String {
        match (self.link, &self.status) {
            (Link::Up, Some(status)) if status.policy.is_empty() => "No valid policy, so no zones".to_owned(),
            (Link::Up, Some(_)) => "The policy names no zone".to_owned(),
            _ => "Waiting for zoned".to_owned(),
        }
    }

    fn panel(&self) -> PanelView {
        let uplink = self.status.as_ref().map(|status| &status.uplink);
        let (words, level) = match (self.link, uplink) {
            (Link::Connecting, _) => ("Connecting to zoned".to_owned(), Level::Attention),
            (Link::Lost, _) => ("zoned is gone, reconnecting".to_owned(), Level::Bad),
            (Link::Silent, _) => ("zoned does not answer".to_owned(), Level::Bad),
            (Link::Up, None) => (String::new(), Level::Quiet),
            (Link::Up, Some(uplink)) => match (&uplink.address, uplink.carrier) {
                (_, false) => ("Uplink: no link".to_owned(), Level::Bad),
                (None, true) => ("Uplink: getting an address".to_owned(), Level::Attention),
                (Some(address), true) => (format!("Uplink {}", text::ascii(address, LABEL)), Level::Good),
            },
        };
        PanelView {
            rect: self.layout.panel,
            policy: self.status.as_ref().map(|status| text::ascii(&status.policy, LABEL)).unwrap_or_default(),
            clock: text::clock(self.unix_seconds),
            uplink: words,
            uplink_level: level,
            demo: self.status.as_ref().is_some_and(|status| status.demo),
            lock: self.button(self.layout.lock, "", Target::LockScreen),
            screen_pin: self
                .offers_screen_pin()
                .then(|| self.button(self.layout.screen_pin, "PIN", Target::ScreenPin)),
        }
    }

    fn tile(&self, now: Millis, index: usize, rect: Rect, zone: &Zone) -> TileView {
        let (phase, symbol, level) = self.phase_words(zone);
        let (tunnel, tunnel_level) = tunnel_words(zone);
        let tunnel_reason =
            tunnel_reason(zone).map(|reason| text::ascii(reason, SENTENCE)).unwrap_or_default();
        // Nothing moves in a zone that stands still.
        let carries = tunnel_reason.is_empty() && alive(zone) && zone.phase != Phase::Locked;
        let traffic = zone.tunnel.as_ref().filter(|_| carries).map(traffic_words).unwrap_or_default();
        let question = self.question.filter(|question| question.zone == index).map(|question| {
            let [stop, lock, keep] = self.layout.question_buttons(rect);
            QuestionView {
                text: format!("Stop {}?", text::ascii(&zone.label, LABEL)),
                stop,
                armed: now >= question.since.saturating_add(ARMING),
                stop_pressed: self.is_pressed(Target::Stop(index)),
                lock: self.can_lock(index).then_some(lock),
                lock_pressed: self.is_pressed(Target::Lock(index)),
                keep,
                keep_pressed: self.is_pressed(Target::Keep(index)),
            }
        });
        let busy = symbol == Symbol::Busy;
        TileView {
            zone: index,
            rect,
            label: text::ascii(&zone.label, LABEL),
            rgb: zone.colour.rgb(),
            phase: phase.to_owned(),
            symbol,
            level,
            beat: if busy { u8::try_from(now / BEAT % 3).unwrap_or_default() } else { 0 },
            reason: zone.reason.as_deref().map(|reason| text::ascii(reason, SENTENCE)).unwrap_or_default(),
            tunnel,
            tunnel_level,
            tunnel_reason,
            traffic,
            moving: self.link == Link::Up && self.moved.contains_key(&zone.name) && alive(zone),
            hint: self.hint(zone).to_owned(),
            padlock: matches!(zone.login, Login::Pin(_)) && can_open(zone.phase),
            pressed: self.is_pressed(Target::Tile(index)),
            stale: self.link != Link::Up,
            key: self
                .tunnel_key(index)
                .filter(|_| question.is_none())
                .map(|_| self.button(self.layout.key_button(rect), "Key", Target::TunnelKey(index))),
            end: (self.can_end(index) && question.is_none())
                .then(|| self.button(self.layout.end_button(rect), "Stop", Target::End(index))),
            question,
        }
    }

    fn phase_words(&self, zone: &Zone) -> (&'static str, Symbol, Level) {
        if let Some(pending) = self.pending.get(&zone.name) {
            return (pending.words, Symbol::Busy, Level::Attention);
        }
        if is_locked(zone) {
            return ("Locked out", Symbol::Failed, Level::Bad);
        }
        match zone.phase {
            Phase::Stopped => ("Stopped", Symbol::Stopped, Level::Quiet),
            Phase::Starting => ("Starting", Symbol::Busy, Level::Attention),
            Phase::Running => ("Running", Symbol::Running, Level::Good),
            Phase::Paused => ("Paused", Symbol::Stopped, Level::Attention),
            Phase::Locking => ("Locking", Symbol::Busy, Level::Attention),
            Phase::Locked => ("Locked", Symbol::Locked, Level::Attention),
            Phase::Stopping => ("Stopping", Symbol::Busy, Level::Attention),
            Phase::Failed => ("Failed", Symbol::Failed, Level::Bad),
        }
    }

    fn hint(&self, zone: &Zone) -> &'static str {
        if self.link != Link::Up || self.pending.contains_key(&zone.name) {
            return "";
        }
        match zone.phase {
            Phase::Stopped | Phase::Failed | Phase::Locked if is_locked(zone) => "Touch to see what to do",
            Phase::Stopped | Phase::Failed if zone.login == Login::Touch => {
                if zone.phase == Phase::Stopped {
                    "Touch to start"
                } else {
                    "Touch to try again"
                }
            }
            Phase::Locked if zone.login == Login::Touch => "Touch to unlock",
            Phase::Locked => "PIN: touch to unlock",
            Phase::Stopped => "PIN: touch to start",
            Phase::Failed => "PIN: touch to try again",
            Phase::Paused => "Touch to go on",
            Phase::Starting => "Touch to stop",
            Phase::Running => "Touch to stop or lock",
            Phase::Stopping | Phase::Locking => "",
        }
    }

    fn bar(&self) -> BarView {
        let layout = &self.layout;
        let notice = self.shown_notice();
        let pages = layout.previous.zip(layout.next).map(|(previous, next)| PagesView {
            previous,
            next,
            page: layout.page + 1,
            pages: layout.pages,
        });
        let dismiss = notice.is_some().then_some(layout.dismiss);
        let level = if notice.is_some() { Level::Bad } else { Level::Quiet };
        let (subject, text) = notice.unwrap_or_else(|| (String::new(), self.quiet_words().to_owned()));
        BarView {
            rect: layout.bar,
            notice: layout.notice,
            subject,
            text,
            level,
            dismiss,
            dismiss_pressed: self.is_pressed(Target::Dismiss),
            pressed: self.is_pressed(Target::Recovery),
            pages,
        }
    }

    fn quiet_words(&self) -> &'static str {
        if self.offers_key() { "No recovery key yet: touch here to make one" } else { "No notices" }
    }

    fn button(&self, rect: Rect, words: &str, target: Target) -> ButtonView {
        ButtonView { rect, words: words.to_owned(), pressed: self.is_pressed(target) }
    }

    pub(super) fn is_pressed(&self, target: Target) -> bool {
        self.press.as_ref().is_some_and(|press| press.inside && press.target == target)
    }
}

/// Too many wrong PINs: it cannot be started.
fn is_locked(zone: &Zone) -> bool {
    let locked = matches!(zone.login, Login::Pin(PinLogin { tries_left: Some(0), .. }));
    locked && can_open(zone.phase)
}

/// The zone has processes.
fn alive(zone: &Zone) -> bool {
    !matches!(zone.phase, Phase::Stopped | Phase::Failed)
}

fn tunnel_words(zone: &Zone) -> (String, Level) {
    match &zone.tunnel {
        None => ("No network".to_owned(), Level::Quiet),
        Some(_) if !alive(zone) => ("Tunnel off".to_owned(), Level::Quiet),
        Some(tunnel) if tunnel.up => ("Tunnel up".to_owned(), Level::Good),
        // A reason comes only when it should be up by now, or never will.
        Some(Tunnel { reason: Some(_), .. }) => ("Tunnel down".to_owned(), Level::Bad),
        Some(_) => ("Tunnel connecting".to_owned(), Level::Attention),
    }
}

/// Why a zone with processes has no tunnel.
fn tunnel_reason(zone: &Zone) -> Option<&str> {
    let tunnel = zone.tunnel.as_ref().filter(|tunnel| alive(zone) && !tunnel.up)?;
    tunnel.reason.as_deref()
}

fn traffic_words(tunnel: &Tunnel) -> String {
    format!("in {}   out {}", text::bytes(tunnel.received_bytes), text::bytes(tunnel.sent_bytes))
}
