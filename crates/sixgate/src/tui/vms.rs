//! The page of VMs and their containers, with what they move through the translator.
use ratatui::text::Line;
use sixgate_engine::status::{Accounted, Vm};

use super::page::{Item, harmless};
use super::sheet::{Sheet, moved, sighting};

/// VMs and their containers, with what they move through the translator.
pub(super) fn page(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.vms();
    if lines.is_empty() {
        return vec![sheet.rule("VMs", &[Item::plain("none in the configuration")])];
    }
    if let Some(nat64) = sheet.status.nat64.as_ref().filter(|nat64| !nat64.vms.is_empty()) {
        lines.push(sheet.rule("Through NAT64, by VM", &[]));
        let row = |who: &Accounted| (harmless(&who.name), moved(who));
        lines.extend(sheet.rows(nat64.vms.iter().map(row).collect()));
    }
    lines
}

impl Sheet<'_> {
    fn vms(&self) -> Vec<Line<'static>> {
        if self.status.vms.is_empty() {
            return Vec::new();
        }
        let seen = self.status.vms.iter().filter(|vm| vm.seen == Some(true)).count();
        let state = Item::plain(format!("{seen} of {} seen", self.status.vms.len()));
        let mut lines = vec![self.rule("VMs", &[state])];
        lines.extend(self.rows(self.status.vms.iter().map(|vm| (harmless(&vm.name), vm_items(vm))).collect()));
        lines
    }
}

/// Whether it was seen, where it is, what is routed to it.
fn vm_items(vm: &Vm) -> Vec<Item> {
    let mut items = vec![sighting(vm.seen, vm.last_seen)];
    items.push(Item::plain(harmless(&vm.lan)));
    items.push(vm.next_hop.map_or_else(|| Item::plain("-"), |address| Item::plain(address.to_string())));
    items.extend(vm.containers.iter().map(|prefix| Item::plain(format!("► {prefix}"))));
    items
}
