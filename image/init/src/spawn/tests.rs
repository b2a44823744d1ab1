use super::*;

fn vmm(slot: u8, zone: &str, names: &[&str], count: usize) -> Result<Order, RefuseError> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    check(7, ZoneProfile::Vmm, slot, zone, names, count)
}

const GOOD: &[&str] =
    &["config", "events", "firmware", "kernel", "initrd", "disk0", "disk1", "net", "agent", "console"];

#[test]
fn a_good_request_becomes_an_order() {
    let order = vmm(3, "office-2", GOOD, GOOD.len()).unwrap();
    assert_eq!((order.process, order.user, order.label.as_str()), (7, 2048, "vmm office-2"));
    assert_eq!(order.descriptors, GOOD);
    let names = ["config", "vhost", "uplink", "status"].map(str::to_owned).to_vec();
    let order = check(8, ZoneProfile::Vpnd, 31, "x", names, 4).unwrap();
    assert_eq!((order.user, order.label.as_str()), (2001 + 16 * 31, "vpnd x"));
    let order = check(9, ZoneProfile::Swtpm, 1, "x", Vec::new(), 0).unwrap();
    assert_eq!((order.user, order.label.as_str()), (2002 + 16, "swtpm x"));
}

#[test]
fn every_rule_refuses() {
    let long = "a".repeat(33);
    let refused = |result: Result<Order, RefuseError>, text: &str| {
        assert_eq!(result.unwrap_err().to_string(), text);
    };
    refused(vmm(32, "office", GOOD, GOOD.len()), "slot 32 is not below 32");
    for zone in ["", "Office", "of fice", "../x", "zone\n", long.as_str()] {
        refused(vmm(0, zone, GOOD, GOOD.len()), "zone name is not [a-z0-9-]{1,32}");
    }
    refused(vmm(0, "office", GOOD, 3), "10 descriptor names came with 3 descriptors");
    let unknown = "vmm takes no descriptor of that name, or not twice (number 3 of the list)";
    for name in ["kvm", "disk8", "disk00", "disk", "a,b", "", "events"] {
        let names = if name == "events" {
            ["config", "kernel", "events", "events"]
        } else {
            ["config", "events", name, "net"]
        };
        refused(vmm(0, "office", &names, 4), unknown);
    }
    refused(vmm(0, "office", &["config"], 1), "vmm needs descriptor events");
    let control = check(1, ZoneProfile::Swtpm, 0, "office", vec!["control".to_owned()], 1);
    refused(control, "swtpm takes no descriptor of that name, or not twice (number 1 of the list)");
}

#[test]
fn users_lead_back_to_their_slot() {
    for slot in [0, 3, 31] {
        let user = vmm(slot, "office", GOOD, GOOD.len()).unwrap().user;
        assert_eq!((super::slot(user), super::slot(user + 1)), (slot, slot));
        assert_eq!((is_vmm(user), is_vmm(user + 1)), (true, false));
        let profiles = [0, 1, 2].map(|more| profile(user + more));
        assert_eq!(profiles, [ZoneProfile::Vmm, ZoneProfile::Vpnd, ZoneProfile::Swtpm]);
    }
    assert!(!is_vmm(101));
}
