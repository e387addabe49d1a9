//! `math.random`: the generator of drand48, whose sequence is the same on every machine.

use super::lua::{lua_State, lua_gettop, lua_pushnumber};
use super::run;
use mlua::ffi::{luaL_argerror, luaL_checkinteger, luaL_error};
use std::ffi::c_int;

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const STATE_BITS: u32 = 48;
/// Largest number that [`Random::draw`] gives.
const NEXT_MAX: u32 = i32::MAX as u32;

/// See the module. It lives as long as the server, as Redis's.
#[derive(Debug, Clone, Copy)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x1234_ABCD_330E)
    }
}

impl Random {
    /// Starts the sequence that belongs to a seed.
    pub fn seed(&mut self, seed: i32) {
        self.0 = u64::from(seed as u32) << 16 | 0x330E;
    }

    /// The next number, 31 bits.
    pub fn draw(&mut self) -> u32 {
        let next = self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        self.0 = next & ((1 << STATE_BITS) - 1);
        (self.0 >> 17) as u32
    }
}

/// `math.random`
pub(super) unsafe extern "C-unwind" fn random(state: *mut lua_State) -> c_int {
    // SAFETY: a C function's own stack; nothing here needs dropping when Lua raises.
    unsafe {
        let next = run::random().map_or(0, |random| random.draw());
        let share = f64::from(next % NEXT_MAX) / f64::from(NEXT_MAX);
        match lua_gettop(state) {
            0 => lua_pushnumber(state, share),
            1 => {
                let upper = luaL_checkinteger(state, 1) as i32;
                if upper < 1 {
                    return luaL_argerror(state, 1, c"interval is empty".as_ptr());
                }
                lua_pushnumber(state, (share * f64::from(upper)).floor() + 1.0);
            }
            2 => {
                let lower = luaL_checkinteger(state, 1) as i32;
                let upper = luaL_checkinteger(state, 2) as i32;
                if lower > upper {
                    return luaL_argerror(state, 2, c"interval is empty".as_ptr());
                }
                let width = upper.wrapping_sub(lower).wrapping_add(1);
                lua_pushnumber(state, (share * f64::from(width)).floor() + f64::from(lower));
            }
            _ => return luaL_error(state, c"wrong number of arguments".as_ptr()),
        }
        1
    }
}

/// `math.randomseed`
pub(super) unsafe extern "C-unwind" fn random_seed(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let seed = unsafe { luaL_checkinteger(state, 1) } as i32;
    if let Some(random) = run::random() {
        random.seed(seed);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_drand48() {
        let mut random = Random::default();
        random.seed(0);
        let first: Vec<u32> = (0..4).map(|_| random.draw()).collect();
        assert_eq!(
            first,
            [366_850_414, 1_610_402_240, 206_956_554, 1_869_309_841]
        );
    }
}
