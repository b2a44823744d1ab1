//! First process of the host that `bench zone-start` boots: see `bench::inside`.

fn main() {
    bench::inside::run();
}
