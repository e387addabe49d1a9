//! PFSELFTEST: registers keep what is written to them, and estimates are near the truth.

use super::{DENSE_BYTES, Encoding, MAGIC, Pattern, REGISTERS, count, dense, empty, encoding};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const REGISTER_ROUNDS: usize = 1000;
const ELEMENTS: u64 = 10_000_000;

/// Runs the test with a seed; what failed, if something did.
pub fn self_test(seed: u64, sparse_bytes_max: usize) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    test_registers(&mut random)?;
    test_estimates(random.random(), sparse_bytes_max, ELEMENTS)
}

fn empty_dense() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.resize(DENSE_BYTES, 0);
    bytes
}

fn test_registers(random: &mut StdRng) -> Result<(), String> {
    for _ in 0..REGISTER_ROUNDS {
        let mut bytes = empty_dense();
        let values: Vec<u8> = (0..REGISTERS).map(|_| random.random_range(0..64)).collect();
        for (register, &length) in values.iter().enumerate() {
            dense::raise(&mut bytes, Pattern { register, length });
        }
        for (register, &value) in values.iter().enumerate() {
            let found = dense::get(&bytes, register);
            if found != value {
                return Err(format!(
                    "TESTFAILED Register {register} should be {value} but is {found}"
                ));
            }
        }
    }
    Ok(())
}

/// Adds distinct elements to a dense and a sparse one, and looks at both at powers of ten.
pub(super) fn test_estimates(
    seed: u64,
    sparse_bytes_max: usize,
    elements: u64,
) -> Result<(), String> {
    let standard_error = 1.04 / (REGISTERS as f64).sqrt();
    let (mut all, mut runs) = (empty_dense(), empty());
    let mut checkpoint = 1;
    let damaged = |_| "TESTFAILED sparse encoding is damaged".to_owned();
    for n in 1..=elements {
        let pattern = Pattern::of(&(n ^ seed).to_le_bytes());
        dense::raise(&mut all, pattern);
        super::add(&mut runs, pattern, sparse_bytes_max).map_err(damaged)?;
        if n != checkpoint {
            continue;
        }
        if n < sparse_bytes_max as u64 / 2 && encoding(&runs) != Some(Encoding::Sparse) {
            return Err("TESTFAILED sparse encoding not used".to_owned());
        }
        let estimate = count(&all).map_err(damaged)?;
        if estimate != count(&runs).map_err(damaged)? {
            return Err("TESTFAILED dense/sparse disagree".to_owned());
        }
        let tolerated = match n {
            // One collision among so few would be more than the error that is expected.
            10 => 1,
            _ => (standard_error * 6.0 * n as f64).ceil() as u64,
        };
        let error = n.abs_diff(estimate);
        if error > tolerated {
            return Err(format!("TESTFAILED Too big error. card:{n} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}
