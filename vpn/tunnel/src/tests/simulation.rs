//! A seeded network between the tunnel and boringtun that loses, duplicates and reorders.

use super::*;

/// A small deterministic generator (xorshift64*): a seed names a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    /// What arrives of these datagrams, in which order.
    fn network(&mut self, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut arrived: Vec<Vec<u8>> = Vec::new();
        for datagram in datagrams {
            // Handshakes are only lost: boringtun's retry waits five real seconds.
            let is_data = datagram[0] == 4;
            let fate = if is_data { self.roll(10) } else { 9 };
            if fate == 0 {
                continue;
            }
            if fate == 1 {
                arrived.push(datagram.clone());
            }
            if is_data && fate < 4 && !arrived.is_empty() {
                let place = usize::try_from(self.roll(u64::try_from(arrived.len()).unwrap())).unwrap();
                arrived.insert(place, datagram);
            } else {
                arrived.push(datagram);
            }
        }
        arrived
    }
}

#[test]
fn traffic_survives_loss_reordering_duplication_and_rekeying() {
    for seed in 1..20_u64 {
        let mut config = one_peer();
        config.limits.rekey_after_messages = 20;
        config.limits.reject_after_messages = 60;
        config.limits.handshakes_per_second = 1000;
        let (mut tunnel, mut remote, mut recorder) = established(&config);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut numbers_in = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        for number in 0..600_u32 {
            let marker = number.to_be_bytes();
            for _ in 0..dice.roll(4) {
                send(&mut tunnel, &frame(&udp(ZONE_V4, SERVER_V4, (1, 2), &marker)), NOW, &mut recorder);
            }
            let mut out = recorder.take_peer();
            out = dice.network(out);
            let mut back = Vec::new();
            for datagram in &out {
                if datagram[0] == 4 {
                    keys.insert(bytes::le32(datagram, 4).unwrap());
                }
                back.extend(remote.receive(datagram));
            }
            back.push(remote.send(&udp(SERVER_V4, ZONE_V4, (2, 1), &marker)));
            for datagram in dice.network(back) {
                tunnel.from_peer(0, &datagram, NOW, &mut recorder);
            }
            numbers_in.extend(recorder.take_zone().iter().map(|frame| bytes::be32(frame, 42).unwrap()));
        }
        let unique: std::collections::BTreeSet<_> = numbers_in.iter().collect();
        assert_eq!(unique.len(), numbers_in.len(), "seed {seed}: a duplicate reached the zone");
        assert!(numbers_in.len() > 480, "seed {seed}: {} of 600 arrived", numbers_in.len());
        assert!(keys.len() > 10, "seed {seed}: {} keys", keys.len());
        assert!(remote.inner.len() > 600, "seed {seed}: {} went out", remote.inner.len());
    }
}
