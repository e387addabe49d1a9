//! Places on the earth: coordinates as scores of a sorted set, distances, and which ranges of
//! scores hold what is near.
//!
//! Redis's own arithmetic, in its order of operations: replies are compared to the last digit.

mod area;
pub mod order;
#[cfg(test)]
mod tests;

pub use area::{Area, Shape};

/// Bits of a coordinate in a score.
const STEPS_MAX: u8 = 26;
/// Metres, quadratic mean of WGS 84.
const EARTH_RADIUS_METRES: f64 = 6_372_797.560_856;
const LONGITUDES: (f64, f64) = (-180.0, 180.0);
/// Those of web maps: the poles can't be shown.
const LATITUDES: (f64, f64) = (-85.051_128_78, 85.051_128_78);
const GEOHASH_LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A place in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Place {
    /// −180 to 180
    pub longitude: f64,
    /// −85.05112878 to 85.05112878
    pub latitude: f64,
}

fn is_within(value: f64, (min, max): (f64, f64)) -> bool {
    (min..=max).contains(&value)
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

impl Place {
    /// Whether there can be such a place.
    pub fn is_valid(self) -> bool {
        is_within(self.longitude, LONGITUDES) && is_within(self.latitude, LATITUDES)
    }

    /// The score of a place in a sorted set: 52 bits.
    pub fn score(self) -> u64 {
        Cell::of(self, STEPS_MAX).bits
    }

    /// The place that a score stands for, the middle of its cell. Any score stands for one, also
    /// those that no place has.
    pub fn of_score(score: f64) -> Self {
        let cell = Cell {
            bits: score_bits(score),
            steps: STEPS_MAX,
        };
        let bounds = cell.bounds();
        let middle =
            |(low, high): (f64, f64), (min, max): (f64, f64)| ((low + high) / 2.0).clamp(min, max);
        Self {
            longitude: middle(bounds.longitudes, LONGITUDES),
            latitude: middle(bounds.latitudes, LATITUDES),
        }
    }

    /// The standard geohash of eleven letters. The last is always `0`, for there are 52 bits.
    pub fn geohash(self) -> [u8; 11] {
        let bits = interleaved(self, (-180.0, 180.0), (-90.0, 90.0), STEPS_MAX);
        std::array::from_fn(|at| match at {
            10 => b'0',
            _ => GEOHASH_LETTERS[(bits >> (52 - (at + 1) * 5)) as usize & 31],
        })
    }

    /// The distance along a great circle, metres. May be NaN for the other side of the earth.
    pub fn distance_metres(self, other: Self) -> f64 {
        let v = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if v == 0.0 {
            return self.latitude_metres(other);
        }
        let (latitude, other) = (radians(self.latitude), radians(other.latitude));
        let u = ((other - latitude) / 2.0).sin();
        let a = u * u + latitude.cos() * other.cos() * v * v;
        2.0 * EARTH_RADIUS_METRES * a.sqrt().asin()
    }

    fn latitude_metres(self, other: Self) -> f64 {
        EARTH_RADIUS_METRES * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

/// A score as bits, the way the processor that Redis mostly runs on converts what is not within.
fn score_bits(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    if score < HALF {
        score as i64 as u64
    } else if score < 2.0 * HALF {
        score as u64
    } else {
        0
    }
}

/// A score as an integer for a reply.
pub fn score_integer(score: f64) -> i64 {
    if score < (1u64 << 63) as f64 {
        score as i64
    } else {
        i64::MIN
    }
}

/// A cell of the grid that halves the earth `steps` times in both directions. Its bits are those
/// of longitude and latitude in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u8,
}

/// What a cell covers.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    longitudes: (f64, f64),
    latitudes: (f64, f64),
}

/// Where the bits of a longitude are in a cell's.
const LONGITUDE_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
/// Where the bits of a latitude are.
const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;

impl Cell {
    fn of(place: Place, steps: u8) -> Self {
        Self {
            bits: interleaved(place, LONGITUDES, LATITUDES, steps),
            steps,
        }
    }

    fn bounds(self) -> Bounds {
        let parts = (1u64 << self.steps) as f64;
        let side = |bits: u64, (min, max): (f64, f64)| {
            let at = squeeze(bits);
            let scale = max - min;
            (
                min + f64::from(at) / parts * scale,
                min + f64::from(at.wrapping_add(1)) / parts * scale,
            )
        };
        Bounds {
            longitudes: side(self.bits >> 1, LONGITUDES),
            latitudes: side(self.bits, LATITUDES),
        }
    }

    /// The cell so many cells (−1, 0 or 1) to the east and to the north, around the earth.
    fn neighbour(self, east: i8, north: i8) -> Self {
        let moved = |own: u64, other: u64, by: i8| {
            // The other coordinate's bits carry from one of ours to the next.
            let unused = 64 - u32::from(self.steps) * 2;
            let (bits, filler) = (self.bits & own, other >> unused);
            let bits = match by {
                0 => return bits,
                1 => bits.wrapping_add(filler + 1),
                _ => (bits | filler).wrapping_sub(filler + 1),
            };
            bits & (own >> unused)
        };
        Self {
            bits: moved(LONGITUDE_BITS, LATITUDE_BITS, east)
                | moved(LATITUDE_BITS, LONGITUDE_BITS, north),
            steps: self.steps,
        }
    }

    /// The first score of the cell and the one behind its last.
    fn scores(self) -> (f64, f64) {
        let unused = 52 - u32::from(self.steps) * 2;
        let aligned = |bits: u64| (bits << unused) as f64;
        (aligned(self.bits), aligned(self.bits + 1))
    }
}

fn interleaved(place: Place, longitudes: (f64, f64), latitudes: (f64, f64), steps: u8) -> u64 {
    let part = |value: f64, (min, max): (f64, f64)| {
        ((value - min) / (max - min) * (1u64 << steps) as f64) as u32
    };
    spread(part(place.latitude, latitudes)) | spread(part(place.longitude, longitudes)) << 1
}

/// Puts a zero before each bit.
fn spread(value: u32) -> u64 {
    let mut bits = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, LATITUDE_BITS),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Takes every second bit, from the lowest on.
fn squeeze(bits: u64) -> u32 {
    let mut bits = bits & LATITUDE_BITS;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}
