//! The page with the public key of a zone's tunnel, as text and as a QR code: the gateway's administrator needs it.

use super::{Millis, Picker};
use crate::geometry::Rect;
use crate::pad::{self, ARMING};
use crate::text;
use crate::view::{ButtonView, FrontView, TunnelKeyView};

/// Longest texts from outside that are drawn.
const LABEL: usize = 48;
const KEY: usize = 64;

/// The page of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPage {
    zone: usize,
    since: Millis,
}

impl KeyPage {
    /// What has just appeared takes no touches: they may have been meant for what was there before.
    pub(super) fn is_shielded(&self, now: Millis) -> bool {
        now < self.since.saturating_add(ARMING)
    }
}

impl Picker {
    /// The public key of this zone's tunnel.
    pub(super) fn tunnel_key(&self, zone: usize) -> Option<&str> {
        let key = self.zones().get(zone)?.tunnel.as_ref()?.public_key.as_deref()?;
        (!key.is_empty()).then_some(key)
    }

    /// A key that is not there any more is not shown.
    pub(super) fn check_key_page(&mut self) {
        if self.key_page.as_ref().is_some_and(|page| self.tunnel_key(page.zone).is_none()) {
            self.key_page = None;
            self.press = None;
        }
    }

    pub(super) fn show_tunnel_key(&mut self, now: Millis, zone: usize) {
        self.question = None;
        self.key_page = Some(KeyPage { zone, since: now });
    }

    pub(super) fn tunnel_key_view(&self, page: &KeyPage, pressed: Option<pad::Target>) -> Option<FrontView> {
        let zone = self.zones().get(page.zone)?;
        let key = text::ascii(self.tunnel_key(page.zone)?, KEY);
        let layout = self.pad_layout();
        let px = |logical| self.layout.scale.of(logical);
        let area = layout.card;
        let small = area.height < px(280);
        let (head, foot) = if small { (px(28), px(28)) } else { (px(56), px(64)) };
        let side = (area.height - head - foot).min(area.width).max(0);
        let code_at =
            Rect { x: area.x + (area.width - side) / 2, y: area.y + head, width: side, height: side };
        let key_at = Rect::from_edges(area.x, code_at.bottom(), area.right(), area.bottom());
        Some(FrontView::Tunnel(TunnelKeyView {
            frame: layout.frame,
            band: layout.band,
            rgb: zone.colour.rgb(),
            label: text::ascii(&zone.label, LABEL),
            words: area,
            headline: "The tunnel's public key, for the gateway".to_owned(),
            key,
            key_at,
            code_at,
            leave: ButtonView {
                rect: layout.leave,
                words: "Close".to_owned(),
                pressed: pressed == Some(pad::Target::Leave),
            },
        }))
    }
}
