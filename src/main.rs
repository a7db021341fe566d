//! The binary: everything is in the library.

/// A request makes some 140 allocations, on two threads and freed on others: this one takes half the CPU for them that glibc's does
/// (loadtest/RESULTS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::cli::main()
}
