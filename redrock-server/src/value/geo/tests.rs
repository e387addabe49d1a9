//! Places and distances that a real Redis 7.0.15 answers.

use super::*;
use proptest::prelude::*;

const PALERMO: Place = Place {
    longitude: 13.361389,
    latitude: 38.115556,
};
const CATANIA: Place = Place {
    longitude: 15.087269,
    latitude: 37.502669,
};

#[test]
fn places_are_the_scores_of_redis() {
    assert_eq!(PALERMO.score(), 3_479_099_956_230_698);
    assert_eq!(CATANIA.score(), 3_479_447_370_796_909);
    let found = Place::of_score(3_479_099_956_230_698.0);
    assert_eq!(found.longitude, 13.361_389_338_970_184);
    assert_eq!(found.latitude, 38.115_556_395_496_3);
    assert_eq!(&found.geohash(), b"sqc8b49rny0");
    let other = Place::of_score(3_479_447_370_796_909.0);
    assert_eq!(&other.geohash(), b"sqdtr74hyu0");
    let tenths = (found.distance_metres(other) * 10_000.0).round();
    assert_eq!(tenths, 1_662_741_516.0);
}

#[test]
fn any_score_is_a_place() {
    for score in [
        f64::INFINITY,
        f64::NEG_INFINITY,
        -1.0,
        1e300,
        0.5,
        2f64.powi(63),
    ] {
        assert!(Place::of_score(score).is_valid(), "{score}");
    }
    assert_eq!(score_bits(-1.0), u64::MAX);
    assert_eq!(score_bits(f64::INFINITY), 0);
    assert_eq!(score_bits(2f64.powi(63)), 1 << 63);
    assert_eq!(score_integer(2f64.powi(63)), i64::MIN);
}

#[test]
fn cells_around_the_edge_of_the_grid_are_on_its_other_side() {
    let east = Cell::of(
        Place {
            longitude: 179.9,
            latitude: 0.1,
        },
        5,
    );
    let next = east.neighbour(1, 0);
    assert_eq!(next.bounds().longitudes.0, -180.0);
    assert_eq!(next.bounds().latitudes, east.bounds().latitudes);
    assert_eq!(next.neighbour(-1, 0), east);
    assert_eq!(east.neighbour(0, 1).neighbour(0, -1), east);
}

fn places() -> impl Strategy<Value = Place> {
    (-180.0..=180.0, -85.05..=85.05).prop_map(|(longitude, latitude)| Place {
        longitude,
        latitude,
    })
}

proptest! {
    #[test]
    fn a_score_stands_for_its_place(place in places()) {
        let found = Place::of_score(place.score() as f64);
        prop_assert!((found.longitude - place.longitude).abs() < 360.0 / 67_108_864.0);
        prop_assert!((found.latitude - place.latitude).abs() < 171.0 / 67_108_864.0);
        prop_assert_eq!(found.score(), place.score());
    }

    #[test]
    fn what_is_near_is_within_the_ranges(
        centre in places(),
        east in -1.0f64..1.0,
        north in -1.0f64..1.0,
        radius in 1.0f64..200_000.0,
    ) {
        // Where Redis's own areas hold: not at the edges of the map, nor far north or south.
        prop_assume!(centre.latitude.abs() < 60.0 && centre.longitude.abs() < 170.0);
        let place = Place {
            longitude: centre.longitude + east * degrees(radius / EARTH_RADIUS_METRES),
            latitude: centre.latitude + north * degrees(radius / EARTH_RADIUS_METRES),
        };
        let score = place.score() as f64;
        let place = Place::of_score(score);
        for shape in [
            Shape::Circle { radius },
            Shape::Rectangle { width: 2.0 * radius, height: 2.0 * radius },
        ] {
            let area = Area { centre, shape, unit_metres: 1.0 };
            if area.distance_within(place).is_some() {
                let ranges = area.score_ranges();
                let found = ranges.iter().filter(|(first, end)| (*first..*end).contains(&score));
                prop_assert_eq!(found.count(), 1, "{:?} {:?}", shape, ranges);
            }
        }
    }
}
