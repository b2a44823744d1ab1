use test_bridge::threads::Thread;

use super::*;

fn process(user: u64, event: &str) -> Activity {
    Activity {
        pid: 7,
        program: "/bin/vmm".to_owned(),
        threads: vec![Thread {
            id: 8,
            name: "vcpu0".to_owned(),
            stat: format!("S 1 7 0 0 -1 0 0 0 0 0 {user} 3 0"),
            sleeps_in: "kvm_vcpu_block".to_owned(),
            system_call: "16 0x10 0xae80".to_owned(),
            stack: "[<0>] kvm_vcpu_block+0x1\n[<0>] kvm_vcpu_halt+0x2".to_owned(),
        }],
        events: vec![(5, "0".to_owned()), (6, event.to_owned())],
    }
}

#[test]
fn a_thread_shows_what_it_ran_where_it_sleeps_and_what_it_leaves() {
    let text = compare(&[process(40, "0")], &[process(42, "a")]);
    assert_eq!(
        text,
        "7 /bin/vmm\n\
         \x20 8 vcpu0            S ran 2+0 ticks; kvm_vcpu_block; 16 0x10 0xae80\n\
         \x20     [<0>] kvm_vcpu_block+0x1\n\
         \x20     [<0>] kvm_vcpu_halt+0x2\n\
         \x20 events that nobody took: 6: a\n",
    );
}

#[test]
fn a_part_that_failed_says_why() {
    let mut report = Report::default();
    report.part("status", Err::<String, _>(CallError::Closed));
    report.part("why", Ok::<_, CallError>("a test waited"));
    assert_eq!(
        report.0,
        "=== status\n(nothing: the bridge's connection ended)\n\n=== why\na test waited\n\n"
    );
}
