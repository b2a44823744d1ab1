//! The tests, in the order in which they run: what changes the machine least comes first.

mod altered;
mod audit_log;
mod builds;
mod cannot_start;
mod crashes;
mod debian;
mod disposable;
mod durability;
mod escape;
mod guest_ends;
mod host;
mod hostile;
mod image;
mod isolation;
mod kept_host;
mod kernels;
mod leaks;
mod lifecycle;
mod locks;
mod memory;
mod no_credential;
mod odd_host;
mod pin;
mod private_disk;
mod probes;
mod searched;
mod second_opening;
mod services;
mod session;
mod shared_disk;
mod shutdown;
mod templates;
mod tpm;
mod tpm_attacks;
mod tpm_use;
mod trusted;
mod tunnels;
mod zones;

use crate::registry::Kind::{Attack, System};
use crate::registry::Test;

/// Every system test.
pub const ALL: &[Test] = &[
    Test { name: "production_image_has_no_shell_and_no_bridge", kind: System, run: image::production },
    Test { name: "two_builds_of_micro_give_the_same_bytes", kind: System, run: builds::micro_twice },
    Test { name: "zones_are_listed_and_picker_is_drawn", kind: System, run: zones::listed_and_drawn },
    Test { name: "host_has_no_address_route_or_listener", kind: Attack, run: host::no_network },
    Test { name: "every_process_of_the_host_is_jailed", kind: Attack, run: host::jailed },
    Test { name: "touch_office_starts_and_fetches_its_page", kind: System, run: zones::touch_office },
    Test { name: "research_at_the_same_time_has_other_content", kind: System, run: zones::research_too },
    Test { name: "vault_has_no_nic", kind: Attack, run: zones::vault_has_no_nic },
    Test { name: "running_zones_give_the_host_no_network", kind: Attack, run: host::no_network_with_zones },
    Test { name: "zone_cannot_reach_another_zone", kind: Attack, run: isolation::zone_to_zone },
    Test { name: "no_leak_while_the_tunnel_is_up", kind: Attack, run: leaks::tunnel_up },
    Test { name: "no_leak_while_the_gateway_is_silent", kind: Attack, run: leaks::gateway_silent },
    Test { name: "no_leak_after_vpnd_was_killed", kind: Attack, run: leaks::vpnd_killed },
    Test { name: "no_leak_before_the_tunnel_is_up", kind: Attack, run: leaks::before_tunnel },
    Test { name: "killed_vmm_leaves_the_other_zone_and_is_named", kind: System, run: crashes::vmm },
    Test { name: "killed_vpnd_comes_back_under_its_zone_and_is_named", kind: System, run: crashes::vpnd },
    Test { name: "any_process_of_a_zone_can_die", kind: System, run: crashes::series },
    Test { name: "zone_pauses_and_goes_on", kind: System, run: lifecycle::pause_and_resume },
    Test {
        name: "zone_started_twice_is_refused_with_a_sentence",
        kind: System,
        run: lifecycle::started_twice,
    },
    Test { name: "zone_restarts_and_is_killed_on_demand", kind: System, run: lifecycle::restart_and_kill },
    Test { name: "silent_gateway_is_named", kind: System, run: tunnels::silent_gateway },
    Test { name: "tpm_of_a_zone_holds_what_was_measured", kind: System, run: tpm::holds_what_was_measured },
    Test { name: "a_guest_seals_and_quotes_with_its_tpm", kind: System, run: tpm_use::used },
    Test { name: "killed_tpm_ends_its_zone_and_no_other", kind: System, run: tpm::killed },
    Test { name: "guest_that_destroys_its_tpm_finds_its_disk", kind: Attack, run: tpm_attacks::destroyed },
    Test { name: "malformed_tpm_commands_harm_nobody", kind: Attack, run: tpm_attacks::survives },
    Test { name: "guest_reaches_nothing_of_firmware_and_host", kind: Attack, run: probes::reach },
    Test { name: "killed_keeper_leaves_zones_and_their_tpms", kind: System, run: tpm::keeper_killed },
    Test { name: "a_disk_opens_with_its_own_tpm_only", kind: Attack, run: trusted::own_tpm_only },
    Test { name: "one_altered_bit_opens_nothing_and_is_named", kind: Attack, run: altered::one_bit },
    Test { name: "a_tunnels_key_is_made_on_the_machine_and_stays", kind: System, run: tunnels::own_key },
    Test {
        name: "wrong_pins_are_counted_for_each_zone_and_across_power_cuts",
        kind: Attack,
        run: pin::counted,
    },
    Test { name: "a_locked_zone_opens_for_its_user_and_loses_nothing", kind: Attack, run: locks::zones },
    Test { name: "nothing_opens_behind_the_displays_lock", kind: Attack, run: locks::screen },
    Test { name: "secrets_of_a_zone_are_where_they_have_to_be", kind: Attack, run: searched::table },
    Test { name: "guest_ends_are_told_apart", kind: System, run: guest_ends::told_apart },
    Test { name: "killed_uplink_comes_back_and_is_named", kind: System, run: services::uplink },
    Test { name: "killed_desktop_comes_back_and_is_named", kind: System, run: services::desktop },
    Test { name: "killed_zoned_leaves_its_zones_running", kind: System, run: services::zoned },
    Test { name: "disposable_zone_leaves_nothing", kind: Attack, run: disposable::leaves_nothing },
    Test { name: "memory_that_a_guest_frees_comes_back", kind: System, run: memory::comes_back },
    Test { name: "greedy_zone_leaves_others_their_part_of_the_disk", kind: Attack, run: shared_disk::fairly },
    Test { name: "no_attempt_from_inside_a_jail_succeeds", kind: Attack, run: escape::every_jail },
    Test { name: "hostile_zone_harms_nobody_but_itself", kind: Attack, run: hostile::harms_nobody },
    Test { name: "power_button_lets_guests_shut_down", kind: System, run: shutdown::power_button },
    Test { name: "host_powers_off_in_order", kind: System, run: shutdown::power_off },
    Test { name: "false_templates_never_get_a_process", kind: Attack, run: templates::refused },
    Test { name: "altered_root_image_ends_its_zone", kind: Attack, run: templates::flipped },
    Test {
        name: "other_kernels_start_or_are_named_by_the_firmware",
        kind: System,
        run: kernels::started_or_named,
    },
    Test { name: "missing_template_is_a_sentence", kind: System, run: cannot_start::template },
    Test { name: "too_little_memory_is_a_sentence", kind: System, run: cannot_start::memory },
    Test { name: "full_data_disk_is_a_sentence", kind: System, run: cannot_start::full },
    Test { name: "data_disk_that_fills_up_ends_no_zone", kind: System, run: cannot_start::fills },
    Test { name: "private_disk_keeps_what_the_policy_names", kind: System, run: private_disk::keeps },
    Test { name: "private_disk_grows_and_never_shrinks", kind: System, run: private_disk::grows },
    Test { name: "killed_vmm_loses_nothing_fsynced", kind: System, run: durability::kills },
    Test { name: "power_cut_loses_nothing_fsynced", kind: System, run: durability::power_cuts },
    Test {
        name: "audit_log_outlives_zoned_and_host_and_names_what_was_altered",
        kind: System,
        run: audit_log::outlives,
    },
    Test { name: "debian_zone_opens_a_session_and_fetches_its_page", kind: System, run: debian::fetches },
    Test { name: "no_session_without_its_credential", kind: Attack, run: no_credential::no_session },
    Test { name: "clock_never_runs_below_build_time", kind: System, run: odd_host::clock },
    Test { name: "bad_policy_is_named_on_the_screen", kind: System, run: odd_host::policy },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::select;

    #[test]
    fn names_are_unique_and_selected_by_any_part() {
        let mut names: Vec<&str> = ALL.iter().map(|test| test.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        assert_eq!(select(ALL, &["no_leak".to_owned()]).len(), 4);
        assert_eq!(select(ALL, &[]).len(), ALL.len());
        assert_eq!(select(ALL, &["nothing like this".to_owned()]).len(), 0);
    }
}
