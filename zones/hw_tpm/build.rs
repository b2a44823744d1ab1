//! Links this crate's own tests against the Debian 13 libraries that `./bulkhead` unpacks, and lets them run with these.

mod link;

fn main() {
    link::with_debian(true);
}
