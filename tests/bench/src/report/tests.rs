use super::*;

fn sample(round: u32, who: Contestant, exits: u32) -> Line {
    let measured = Measured {
        hello_us: 1000,
        exits,
        port_exits: 0,
        memory_exits: 1,
        fault_exits: 1,
        halt_exits: 1,
        interrupt_exits: 1,
        vmm_kib: 10,
        before_run_us: 1,
        outside_ms: 1,
    };
    Line::Sample { round, who, measured }
}

fn exits_row(lines: &[Line], peer: &str) -> Option<Row> {
    rows("b", lines).into_iter().find(|row| row.metric == "vm-exits" && row.peer_version.contains(peer))
}

#[test]
fn a_target_holds_only_with_the_whole_interval() {
    let check = |ours: [u32; 3], expected: bool| {
        let mut lines = Vec::new();
        for (round, ours) in (0..).zip(ours) {
            lines.push(sample(round, Contestant::Ours, ours));
            lines.push(sample(round, Contestant::Q35, 900));
        }
        let row = exits_row(&lines, "q35").unwrap();
        assert_eq!(row.holds, Some(expected), "{row:?}");
    };
    check([300, 300, 300], true);
    check([301, 301, 301], false);
    check([200, 200, 400], false);
}

#[test]
fn two_rounds_show_no_target_to_hold() {
    let round = |round| [sample(round, Contestant::Ours, 1), sample(round, Contestant::Q35, 900)];
    let holds =
        |rounds: u32| exits_row(&(0..rounds).flat_map(round).collect::<Vec<_>>(), "q35").unwrap().holds;
    assert_eq!([holds(2), holds(3)], [Some(false), Some(true)]);
}

#[test]
fn rounds_without_a_partner_do_not_count() {
    let lines = [
        sample(0, Contestant::Ours, 10),
        sample(0, Contestant::Q35, 100),
        sample(1, Contestant::Ours, 1_000_000),
        sample(2, Contestant::MicrovmPcie, 5),
    ];
    assert_eq!(exits_row(&lines, "q35").unwrap().ratio, Some(0.1));
    assert_eq!(exits_row(&lines, "pcie"), None);
}

#[test]
fn a_peer_that_costs_nothing_gives_no_ratio_and_no_hold() {
    let lines = [sample(0, Contestant::Ours, 10), sample(0, Contestant::Q35, 0)];
    let row = exits_row(&lines, "q35").unwrap();
    assert_eq!((row.ratio, row.holds), (None, Some(false)));
}

#[test]
fn memory_that_is_looked_at_once_is_a_row_of_its_own() {
    let check = |what, expected| {
        let mut lines = vec![Line::Memory { what, who: Contestant::Ours, kib: 30 }];
        assert!(rows("b", &lines).is_empty());
        lines.push(Line::Memory { what, who: Contestant::MicrovmMmio, kib: 120 });
        let found = rows("b", &lines);
        assert_eq!((found[0].metric, found[0].ratio, found[0].holds), expected);
    };
    check(Footprint::EighthIdle, ("eighth-idle-zone", Some(0.25), None));
    check(Footprint::WholeZone, ("zone-memory", Some(0.25), Some(false)));
}

#[test]
fn a_json_row_has_the_promised_keys() {
    let lines = [sample(0, Contestant::Ours, 10), sample(0, Contestant::Q35, 100)];
    let mut text = Vec::new();
    json(&rows("zone-start", &lines), &mut text).unwrap();
    let first: serde_json::Value =
        serde_json::from_str(String::from_utf8(text).unwrap().lines().next().unwrap()).unwrap();
    let keys: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["bench", "metric", "unit", "ours", "peer", "peer_version", "ratio", "target", "holds"];
    expected.sort_unstable();
    let mut found = keys.clone();
    found.sort_unstable();
    assert_eq!(found, expected);
}
