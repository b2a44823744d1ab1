use super::*;

#[test]
fn waits_double_and_the_sixth_death_in_a_minute_is_the_last() {
    let mut restarts = Restarts::default();
    let now = Duration::from_secs(100);
    for wait in [200, 400, 800, 1600, 3200] {
        assert_eq!(restarts.died(now), Verdict::At(now + Duration::from_millis(wait)));
    }
    assert_eq!(restarts.died(now + Duration::from_secs(59)), Verdict::GiveUp);
}

#[test]
fn old_deaths_are_forgotten() {
    let mut restarts = Restarts::default();
    for minute in 1..=20 {
        let now = Duration::from_secs(minute * 60);
        assert_eq!(restarts.died(now), Verdict::At(now + FIRST_WAIT));
    }
}

#[test]
fn deaths_that_are_handed_over_count() {
    let now = Duration::from_secs(7);
    assert_eq!(Restarts::after(2, now).died(now), Verdict::At(now + Duration::from_millis(800)));
    assert_eq!(Restarts::after(usize::MAX, now).died(now), Verdict::GiveUp);
}
