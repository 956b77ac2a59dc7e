use bongsu_testkit::layers;

#[test]
fn dependencies_only_point_down() {
    let faults = layers::faults(&layers::metadata());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
