use super::{super::*, world::*};

#[test]
fn smoke() {
    let mut world = World::new(4, TERMS, &[(2, 0), (2, 5), (2, 9)]);
    for at in 0..3 {
        world.start(at);
    }
    for beat in 0..20 {
        if beat == 10 {
            world.crash(0)
        }
        if beat == 15 {
            world.start(0)
        }
        world.beat();
        println!("{beat}: {:?} {:?}", world.log(), world.overlap());
    }
    world.leave(1);
    for beat in 20..30 {
        world.beat();
        println!("{beat}: {:?} {:?}", world.log(), world.overlap());
    }
    println!("{:?}", world.unrest());
}
