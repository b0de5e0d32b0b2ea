//! The table of all scenarios. A name is a sentence; the body is in the file of its topic.
use anyhow::Result;

use crate::lab::Lab;
use crate::network::Network;
use crate::network::Network::{Slaac, Slash76};
use crate::router::BackEnd;

mod advertisement;
mod answering;
mod blocks;
mod bulk;
mod change;
mod clat;
mod client;
mod clock;
mod command_line;
mod connections;
mod container;
mod ddns;
mod delegation;
mod denials;
mod docker;
mod encrypted;
mod fast_path;
mod firewall;
mod flows;
mod hostile;
mod lifecycle;
mod metrics;
mod mtu;
mod nat;
mod nat64;
mod ndp_proxy;
mod network_manager;
mod npt;
mod offloads;
mod outbound;
mod policy;
mod publish;
mod renewal;
mod repair;
mod resolver;
mod scan;
mod senders;
mod shared_address;
mod shared_prefix;
mod shortcut;
mod signed_zone;
mod sources;
mod uplink;
mod vm_prefixes;

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What is shown, as a sentence.
    pub name: &'static str,
    /// Where it can run.
    pub back_ends: &'static [BackEnd],
    /// The network that it happens in.
    pub network: Network,
    /// Who starts the router.
    pub start: Start,
    /// What happens.
    pub body: fn(&mut Lab) -> Result<()>,
}

/// Who starts the router, and whether it can serve another scenario afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It runs before the body begins and after it ends.
    Running,
    /// It runs before the body begins; the body ends it.
    LastOfMachine,
    /// The body starts it.
    ByBody,
}

const NAMESPACE: &[BackEnd] = &[BackEnd::Namespace];
const MACHINE: &[BackEnd] = &[BackEnd::Machine];
const BOTH: &[BackEnd] = &[BackEnd::Namespace, BackEnd::Machine];

macro_rules! table {
    ($(#[$text:meta])* $table:ident: $($name:ident: $back_ends:ident, $network:ident, $start:ident => $body:path;)*) => {
        $(#[$text])*
        pub const $table: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            back_ends: $back_ends,
            network: $network,
            start: Start::$start,
            body: $body,
        }),*];
    };
}

#[rustfmt::skip]
table! {
    /// All scenarios but those with Docker. What ends its machine comes last.
    SCENARIOS:

    // What a client sees.
    a_client_configures_itself_by_the_kernels_own_slaac:           BOTH, Slaac, Running => client::configures_itself;
    the_first_advertisement_after_a_cold_start_names_nat64:        NAMESPACE, Slaac, ByBody => client::hears_of_nat64_at_once;
    dig_gets_synthesized_aaaa_records_over_udp_and_tcp:            BOTH, Slaac, Running => client::digs;
    curl_fetches_from_an_ipv4_only_server_over_nat64:              BOTH, Slaac, Running => client::fetches_over_nat64;
    udp_and_ping_go_through_nat64:                                 BOTH, Slaac, Running => client::asks_and_pings;
    a_stranger_cannot_use_a_clients_nat64_binding:                 BOTH, Slaac, Running => client::keeps_strangers_out;
    errors_of_ipv4_routers_arrive_as_icmpv6:                       BOTH, Slaac, Running => client::traces_the_path;
    plain_ipv6_passes_untranslated:                                BOTH, Slaac, Running => client::fetches_over_ipv6;
    statically_configured_hosts_on_76s_are_served_too:             BOTH, Slash76, Running => client::is_served_without_slaac;
    the_default_refuses_to_translate_to_private_ipv4:              NAMESPACE, Slaac, Running => client::is_refused_private_ipv4;
    without_ipv4_pref64_is_withdrawn_and_synthesis_stops:          NAMESPACE, Slaac, Running => client::loses_and_regains_nat64;

    everything_that_is_advertised_reaches_hosts:                   NAMESPACE, Slaac, ByBody => advertisement::tells_everything;
    what_a_reload_removes_is_taken_back_from_hosts:                NAMESPACE, Slaac, ByBody => advertisement::takes_back;
    another_router_on_a_lan_is_noticed:                            NAMESPACE, Slaac, Running => advertisement::notices_others;

    // The resolver.
    an_answer_is_remembered_until_it_is_flushed:                   NAMESPACE, Slaac, Running => resolver::remembers;
    names_of_this_network_stay_here_and_others_outlive_the_upstream: NAMESPACE, Slaac, Running => resolver::knows_its_own;
    what_is_asked_for_often_is_answered_in_the_kernel:              NAMESPACE, Slaac, Running => answering::in_the_kernel;
    answers_are_validated_before_they_are_synthesized:             NAMESPACE, Slaac, Running => resolver::validates;
    proofs_of_a_real_signer_lead_programs_where_they_go:            NAMESPACE, Slaac, Running => signed_zone::proves;
    nobody_asks_without_measure_or_is_led_inside_by_a_name:         NAMESPACE, Slaac, Running => resolver::keeps_out;
    questions_go_over_tls_to_whom_they_are_meant_for_or_nowhere:    NAMESPACE, Slaac, Running => encrypted::asks_by_name;
    a_lan_with_ipv4_of_its_own_gets_no_synthesized_answers:        NAMESPACE, Slaac, Running => resolver::leaves_untranslated;

    // Containers behind VMs.
    containers_behind_a_vm_reach_ipv6_and_ipv4:                    BOTH, Slaac, Running => container::reach_out;
    containers_behind_a_vm_on_a_76_reach_ipv6_and_ipv4:            NAMESPACE, Slash76, Running => container::reach_out;
    containers_of_two_vms_reach_each_other_inside_a_64:            NAMESPACE, Slaac, ByBody => container::reach_each_other;
    containers_of_two_vms_on_76s_reach_each_other:                 NAMESPACE, Slash76, ByBody => container::reach_each_other;

    // The other end of 464XLAT.
    an_ipv4_only_client_goes_through_a_clat_and_nat64:             NAMESPACE, Slaac, Running => clat::translates_end_to_end;
    a_clat_leaves_taken_addresses_and_uses_others:                 NAMESPACE, Slaac, Running => clat::takes_other_addresses;
    a_clat_follows_prefixes_and_leaves_a_silent_nat64:             NAMESPACE, Slaac, Running => clat::follows_prefixes;
    a_clat_that_is_killed_or_not_needed_leaves_nothing_in_the_way: NAMESPACE, Slaac, Running => clat::leaves_nothing;
    a_clat_runs_under_systemd_as_its_unit_says:                    NAMESPACE, Slaac, Running => clat::lives_as_its_unit_says;

    // What comes in.
    an_inbound_connection_is_refused_without_an_allow_entry:       BOTH, Slaac, Running => firewall::refuses;
    an_allow_entry_admits_what_it_names_and_nothing_else:          NAMESPACE, Slaac, ByBody => firewall::admits;
    a_flushed_ruleset_is_back_at_once:                             NAMESPACE, Slaac, Running => firewall::comes_back;
    nobody_sends_with_addresses_of_elsewhere:                      NAMESPACE, Slaac, Running => firewall::spoofed;
    hosts_send_from_their_own_addresses_and_from_no_others:        NAMESPACE, Slaac, Running => sources::are_validated;
    a_vm_is_found_by_its_mac_and_shown_when_it_falls_silent:       NAMESPACE, Slaac, ByBody => sources::vm_is_found_and_lost;
    prefixes_carved_out_of_a_64_are_no_trap:                       NAMESPACE, Slaac, Running => sources::carved_prefixes_are_no_trap;
    an_allow_entry_for_a_vm_on_a_76_works:                         NAMESPACE, Slash76, ByBody => firewall::admits;
    what_a_removed_entry_admitted_ends_at_once:                    NAMESPACE, Slaac, ByBody => policy::ends;
    an_entry_with_groups_admits_what_their_members_say:            NAMESPACE, Slaac, ByBody => policy::groups;
    between_vms_the_policy_decides:                                NAMESPACE, Slaac, ByBody => policy::between;
    what_was_refused_is_told_with_the_entry_that_admits_it:        NAMESPACE, Slaac, ByBody => denials::are_told;
    a_restricted_vm_reaches_what_its_entries_name_and_nothing_else: NAMESPACE, Slaac, ByBody => outbound::is_restricted;
    nobody_takes_all_connections_for_himself:                     NAMESPACE, Slaac, ByBody => connections::are_limited;
    a_full_table_of_connections_is_told_and_cuts_nobody_off:       MACHINE, Slaac, Running => connections::are_full;
    a_scan_during_reloads_finds_nothing_that_is_not_listed:        NAMESPACE, Slaac, ByBody => scan::finds_nothing;
    a_scan_of_a_lan_has_few_asked_for_and_hides_nobody:            NAMESPACE, Slaac, ByBody => scan::asks_for_few;

    // Changes of the configuration.
    a_change_that_locks_its_maker_out_reverts_by_itself:           NAMESPACE, Slaac, ByBody => change::reverts;
    a_wrong_file_at_start_gives_way_to_the_last_good_one:          NAMESPACE, Slaac, ByBody => change::falls_back;

    // The shared IPv4 address.
    the_routers_own_ping_and_tcp_share_the_address_with_nat64:     NAMESPACE, Slaac, Running => shared_address::is_shared;
    the_router_and_clients_share_a_32_with_a_gateway_outside:      NAMESPACE, Slash76, Running => shared_address::is_shared;

    // What of IPv4 leads inside, and further addresses.
    published_ports_lead_inside_and_nothing_else_does:             NAMESPACE, Slaac, ByBody => publish::leads_inside;
    published_ports_lead_inside_on_76s_too:                        NAMESPACE, Slash76, ByBody => publish::leads_inside;
    clients_keep_to_one_of_the_further_addresses:                  NAMESPACE, Slaac, ByBody => publish::further_addresses;
    further_addresses_of_a_32_leave_the_routers_own_alone:         NAMESPACE, Slash76, ByBody => publish::further_addresses;
    a_new_uplink_address_ends_old_sessions_and_serves_new_ones:    NAMESPACE, Slaac, Running => publish::new_address;

    ipv4_and_unique_local_hosts_leave_and_are_published:           NAMESPACE, Slaac, ByBody => nat::leave_and_are_published;

    // An uplink that is learnt.
    nat64_follows_the_uplinks_lease_when_the_provider_renumbers:   NAMESPACE, Slaac, ByBody => uplink::nat64_follows_the_lease;
    a_dhcp_lease_outlives_the_daemon_and_its_server:               NAMESPACE, Slaac, ByBody => uplink::lease_outlives_the_daemon;
    an_address_that_somebody_else_has_is_declined:                 NAMESPACE, Slaac, ByBody => uplink::conflict_is_declined;
    a_delegation_that_changes_renumbers_everything_at_once:        NAMESPACE, Slaac, ByBody => delegation::renumbers;
    networkd_and_dhcpcd_follow_a_new_prefix:                       NAMESPACE, Slaac, ByBody => network_manager::follow;
    two_delegated_prefixes_shrink_and_end_when_the_server_says_so:  NAMESPACE, Slaac, ByBody => renewal::follows;
    a_lan_has_the_uplinks_own_prefix_where_none_is_delegated:      NAMESPACE, Slaac, ByBody => shared_prefix::is_shared;
    a_provider_that_resolves_each_address_reaches_what_is_there:   NAMESPACE, Slaac, ByBody => ndp_proxy::answers;
    containers_keep_their_addresses_while_the_prefix_outside_changes: NAMESPACE, Slaac, ByBody => npt::follows;
    names_outside_follow_the_prefix_and_are_told_once:             NAMESPACE, Slaac, ByBody => ddns::follows;
    a_vm_hears_of_its_new_prefix_and_tells_docker:                 NAMESPACE, Slaac, ByBody => vm_prefixes::reach_docker;
    a_delegation_that_is_lost_ages_out_and_comes_back:             NAMESPACE, Slaac, ByBody => delegation::goes_and_returns;

    // Packets that are too big.
    an_upload_finds_the_mtu_of_a_narrow_ipv4_link:                 BOTH, Slaac, Running => mtu::upload_through_a_narrow_ipv4_link;
    a_download_finds_the_mtu_of_a_narrow_ipv6_link:                NAMESPACE, Slaac, Running => mtu::download_through_a_narrow_ipv6_link;
    a_full_sized_ipv4_datagram_is_told_the_smaller_mtu:            NAMESPACE, Slaac, Running => mtu::full_sized_datagram;

    // The translator with real tools.
    pings_of_1280_to_10000_bytes_cross_nat64:                      BOTH, Slaac, Running => nat64::pings_of_all_sizes;
    a_ping_finds_the_mtu_of_a_narrow_ipv4_link:                    NAMESPACE, Slaac, Running => nat64::ping_finds_the_mtu;
    traceroute_reaches_ipv4_by_udp_echo_and_tcp:                   NAMESPACE, Slaac, Running => nat64::traces_to_ipv4;
    traceroute_from_ipv4_reaches_a_container_behind_a_binding:     NAMESPACE, Slaac, Running => nat64::traces_from_ipv4;
    sctp_and_dccp_are_refused_with_port_unreachable:               BOTH, Slaac, Running => nat64::other_protocols;
    a_connection_that_both_ends_open_is_one:                       BOTH, Slaac, Running => nat64::opens_from_both_ends;
    an_idle_connection_is_probed_after_two_hours_and_lives:        NAMESPACE, Slaac, Running => nat64::lies_idle;
    bindings_are_told_to_a_syslog_server:                          NAMESPACE, Slaac, ByBody => nat64::is_told_and_counted;
    blocks_are_told_and_held_back_over_restarts:                   NAMESPACE, Slaac, ByBody => blocks::are_held_back;
    a_client_that_takes_all_ports_leaves_some_to_others:           NAMESPACE, Slaac, ByBody => nat64::is_exhausted;

    // Many bytes.
    bulk_tcp_crosses_nat64_bit_for_bit:                            BOTH, Slaac, Running => bulk::crosses_bit_for_bit;
    datagrams_larger_than_the_mtu_come_back_unchanged:             BOTH, Slaac, Running => bulk::large_datagrams;
    busy_small_packets_go_past_the_kernel_unless_others_look:      NAMESPACE, Slaac, Running => shortcut::taken_unless_others_look;

    // The fast path.
    most_of_an_established_flow_goes_past_the_rules:               NAMESPACE, Slaac, Running => flows::go_past_the_rules;
    flows_past_the_rules_are_counted_and_end_with_their_entry:     NAMESPACE, Slaac, ByBody => flows::end_with_their_entry;
    a_forged_address_gets_nothing_out_of_a_flow_past_the_rules:    NAMESPACE, Slaac, Running => flows::are_their_senders_alone;
    a_new_route_counts_for_the_next_packet_past_the_rules:         NAMESPACE, Slaac, Running => flows::follow_routes;
    without_a_daemon_or_with_others_rules_none_goes_past_the_rules: NAMESPACE, Slaac, Running => flows::are_given_up;
    most_of_what_is_translated_is_translated_in_the_kernel:        BOTH, Slaac, Running => fast_path::takes_over;
    flows_go_on_while_no_daemon_is_there_and_the_next_knows_them:  NAMESPACE, Slaac, Running => fast_path::outlives_the_daemon;
    other_rules_judge_the_flows_of_the_fast_path_again:            NAMESPACE, Slaac, Running => fast_path::is_judged_again;
    a_new_route_counts_for_the_fast_paths_next_packet:             NAMESPACE, Slaac, Running => fast_path::follows_routes;
    a_smaller_mtu_under_the_fast_path_loses_nothing:               NAMESPACE, Slaac, Running => fast_path::follows_mtus;
    the_fast_path_comes_back_with_its_interface:                   NAMESPACE, Slaac, Running => fast_path::comes_back_with_its_interface;
    a_forged_address_gets_nothing_out_of_a_fast_paths_session:     NAMESPACE, Slaac, Running => senders::are_told_apart;
    a_restricted_hosts_busy_flow_ends_with_its_entry:              NAMESPACE, Slaac, ByBody => senders::end_with_their_entry;
    offloads_that_change_under_traffic_change_no_packet:           NAMESPACE, Slaac, Running => offloads::change_under_traffic;
    prefixes_of_all_lengths_share_the_fast_path:                   NAMESPACE, Slaac, Running => offloads::of_all_lengths;
    a_full_fast_path_leaves_further_sessions_to_the_daemon:        NAMESPACE, Slaac, ByBody => senders::find_no_room;
    without_the_fast_path_everything_works_and_a_finding_says_why: NAMESPACE, Slaac, ByBody => fast_path::does_without;
    a_fast_path_that_is_switched_off_leaves_nothing_behind:        NAMESPACE, Slaac, Running => fast_path::is_switched_off;

    // Trouble.
    a_missing_interface_is_a_finding_and_is_picked_up:             NAMESPACE, Slaac, ByBody => hostile::missing_interface;
    a_wrong_configuration_at_start_keeps_default_deny:             NAMESPACE, Slaac, ByBody => hostile::wrong_configuration;
    a_wrong_configuration_on_reload_keeps_the_old_one:             NAMESPACE, Slaac, Running => hostile::wrong_reload;
    a_busy_port_53_is_named:                                       NAMESPACE, Slaac, ByBody => hostile::busy_port;
    a_missing_tun_device_is_named_and_the_rest_runs:               NAMESPACE, Slaac, ByBody => hostile::missing_tun;
    what_something_else_changes_in_the_kernel_is_put_right:        NAMESPACE, Slaac, Running => repair::puts_right;
    garbage_on_any_socket_is_counted_and_dropped:                  NAMESPACE, Slaac, Running => hostile::garbage;

    // The command line.
    the_command_line_shows_the_status_and_checks_files:            NAMESPACE, Slaac, Running => command_line::speaks;
    whatever_a_command_prints_as_json_fits_its_schema:             NAMESPACE, Slaac, Running => command_line::fits_its_schemas;
    the_router_pings_traces_resolves_logs_and_captures:            NAMESPACE, Slaac, Running => command_line::looks;
    each_service_starts_anew_by_itself:                            NAMESPACE, Slaac, Running => command_line::restarts_one_service;
    the_status_tells_who_was_seen_who_contends_and_who_asks:       NAMESPACE, Slaac, Running => command_line::tells_of_hosts;
    a_clock_that_time_servers_call_wrong_is_a_finding:             NAMESPACE, Slaac, ByBody => clock::is_compared_and_left_alone;
    metrics_are_told_to_the_lan_and_not_to_the_uplink:             NAMESPACE, Slaac, ByBody => metrics::are_told_to_the_lan_alone;

    // Beginning and end.
    a_restart_keeps_everything_and_comes_back_the_same:            NAMESPACE, Slaac, Running => lifecycle::restart;
    a_killed_daemon_leaves_default_deny_and_comes_back_the_same:   NAMESPACE, Slaac, Running => lifecycle::killed;
    a_restart_on_76s_comes_back_the_same:                          NAMESPACE, Slash76, Running => lifecycle::restart;
    a_restart_on_request_is_carried_out_by_process_1:              MACHINE, Slaac, Running => lifecycle::restart_on_request;
    a_stop_withdraws_everything_but_default_deny:                  NAMESPACE, Slaac, Running => lifecycle::stop;
    a_key_on_the_serial_console_ends_the_machine_cleanly:          MACHINE, Slash76, LastOfMachine => lifecycle::power_key;
    the_power_button_ends_the_machine_cleanly:                     MACHINE, Slaac, LastOfMachine => lifecycle::power_button;
}

#[rustfmt::skip]
table! {
    /// Scenarios with real Docker on the VMs; each starts its own router.
    DOCKER:

    docker_containers_of_two_vms_follow_the_policy:                BOTH, Slaac, ByBody => docker::follow_the_policy;
    docker_containers_with_unique_local_addresses_are_published:   BOTH, Slaac, ByBody => docker::leave_and_are_published;
    docker_containers_without_ipv6_go_through_a_clat_and_nat64:    BOTH, Slaac, ByBody => docker::reach_ipv4_through_a_clat;
    docker_containers_outlive_a_new_prefix:                        BOTH, Slaac, ByBody => docker::outlive_a_new_prefix;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_because_artefacts_go_by_them() {
        let mut names: Vec<&str> = SCENARIOS.iter().chain(DOCKER).map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len() + DOCKER.len());
    }
}
