//! The server's binary.

use redrock_server::{app, config::Config};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let mut config = Config::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--port"
            && let Some(port) = args.next()
        {
            config.port = port.parse()?;
        }
    }
    app::run(config)
}
