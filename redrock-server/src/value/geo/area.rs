//! Which cells a search looks into: the one of its centre and those around it, in a grid as fine
//! as the radius allows.

use super::{Bounds, Cell, EARTH_RADIUS_METRES, Place, degrees, radians};

/// Half of the equator on a web map, metres.
const MERCATOR_MAX_METRES: f64 = 20_037_726.37;

/// The neighbours in the order in which they are searched: with it go the results of a search
/// that is not sorted. East and north.
const AROUND: [(i8, i8); 8] = [
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

/// What is searched around a centre, in units of [`Area::unit_metres`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Up to a distance.
    Circle {
        /// The distance.
        radius: f64,
    },
    /// A box along the axes.
    Rectangle {
        /// From west to east.
        width: f64,
        /// From south to north.
        height: f64,
    },
}

/// A part of the earth's surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Its middle.
    pub centre: Place,
    /// Form and size.
    pub shape: Shape,
    /// Metres of the unit that sizes are in.
    pub unit_metres: f64,
}

impl Area {
    /// The distance of a place from the centre in metres if it is within.
    pub fn distance_within(&self, place: Place) -> Option<f64> {
        let centre = self.centre;
        match self.shape {
            Shape::Circle { radius } => {
                let distance = centre.distance_metres(place);
                // What can't be computed is not farther.
                (distance <= radius * self.unit_metres || distance.is_nan()).then_some(distance)
            }
            Shape::Rectangle { width, height } => {
                let parallel = Place {
                    longitude: centre.longitude,
                    latitude: place.latitude,
                };
                let outside = place.latitude_metres(centre) > height * self.unit_metres / 2.0
                    || place.distance_metres(parallel) > width * self.unit_metres / 2.0;
                (!outside).then(|| centre.distance_metres(place))
            }
        }
    }

    /// Half of the width and of the height.
    fn halves(&self) -> (f64, f64) {
        match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
        }
    }

    /// From the centre to what is farthest, metres.
    fn radius_metres(&self) -> f64 {
        let radius = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Rectangle { .. } => {
                let (width, height) = self.halves();
                (width * width + height * height).sqrt()
            }
        };
        radius * self.unit_metres
    }

    /// Degrees that hold the area.
    fn bounds(&self) -> Bounds {
        let (width, height) = self.halves();
        let Place {
            longitude,
            latitude,
        } = self.centre;
        let north = degrees(self.unit_metres * height / EARTH_RADIUS_METRES);
        // Degrees of longitude are shorter towards the pole.
        let towards_pole = if latitude < 0.0 {
            latitude - north
        } else {
            latitude + north
        };
        let width = self.unit_metres * width / EARTH_RADIUS_METRES;
        let east = degrees(width / radians(towards_pole).cos());
        Bounds {
            longitudes: (longitude - east, longitude + east),
            latitudes: (latitude - north, latitude + north),
        }
    }

    /// The ranges of scores that hold all places of the area, and others: first score, and the
    /// one behind the last.
    pub fn score_ranges(&self) -> Vec<(f64, f64)> {
        let bounds = self.bounds();
        let steps = steps_for(self.radius_metres(), self.centre.latitude);
        let mut cell = Cell::of(self.centre, steps);
        if steps > 1 && !covers(cell, &bounds) {
            cell = Cell::of(self.centre, steps - 1);
        }
        cells_around(cell, &bounds)
            .into_iter()
            .map(Cell::scores)
            .collect()
    }
}

/// How fine the grid may be so that a cell and its neighbours cover a radius.
fn steps_for(radius_metres: f64, latitude: f64) -> u8 {
    if radius_metres == 0.0 {
        return 26;
    }
    let (mut radius, mut steps) = (radius_metres, 1);
    while radius < MERCATOR_MAX_METRES {
        radius *= 2.0;
        steps += 1;
    }
    // Two fewer, so that the radius is covered in most cases; fewer still towards the poles.
    steps -= 2;
    if latitude.abs() > 66.0 {
        steps -= 1;
    }
    if latitude.abs() > 80.0 {
        steps -= 1;
    }
    steps.clamp(1, 26) as u8
}

/// Whether the cells around reach as far as the shape.
fn covers(cell: Cell, bounds: &Bounds) -> bool {
    let bounds_of = |(east, north)| cell.neighbour(east, north).bounds();
    !(bounds_of((0, 1)).latitudes.1 < bounds.latitudes.1
        || bounds_of((0, -1)).latitudes.0 > bounds.latitudes.0
        || bounds_of((1, 0)).longitudes.1 < bounds.longitudes.1
        || bounds_of((-1, 0)).longitudes.0 > bounds.longitudes.0)
}

/// A cell and those of its neighbours that bounds reach into.
fn cells_around(cell: Cell, bounds: &Bounds) -> Vec<Cell> {
    let own = cell.bounds();
    // In a grid of two by two all is needed.
    let fine = cell.steps >= 2;
    let is_needed = |(east, north): (i8, i8)| {
        !(fine
            && (north < 0 && own.latitudes.0 < bounds.latitudes.0
                || north > 0 && own.latitudes.1 > bounds.latitudes.1
                || east < 0 && own.longitudes.0 < bounds.longitudes.0
                || east > 0 && own.longitudes.1 > bounds.longitudes.1))
    };
    let mut cells = vec![cell];
    for direction in AROUND.into_iter().filter(|way| is_needed(*way)) {
        let next = cell.neighbour(direction.0, direction.1);
        // Around a small earth neighbours on both sides are the same cell. Only what is behind
        // the first is compared, as in Redis.
        if cells.len() == 1 || cells.last() != Some(&next) {
            cells.push(next);
        }
    }
    cells
}
