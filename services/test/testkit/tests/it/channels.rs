use bongsu_domain::Channel;
use bongsu_testkit::root;

/// What every channel brings, relative to the repository.
fn places(channel: Channel) -> Vec<String> {
    let mut places = vec![
        format!("docs/channels/{channel}.md"),
        format!("services/simulators/src/{channel}.rs"),
        format!("services/lib/channels/src/{channel}.rs"),
    ];
    places.extend(
        ["config", "payload", "classify", "provider"]
            .map(|file| format!("services/lib/channels/src/{channel}/{file}.rs")),
    );
    places
}

#[test]
fn every_channel_has_its_page_its_folder_and_its_simulator() {
    let missing: Vec<_> = Channel::ALL
        .iter()
        .flat_map(|channel| places(*channel))
        .filter(|place| !root().join(place).is_file())
        .collect();
    assert!(missing.is_empty(), "missing: {}", missing.join(", "));
}

#[test]
fn every_channel_has_a_section_in_the_sample_configuration() {
    let path = root().join("compose/bongsu.sample.toml");
    let sample = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    for channel in Channel::ALL {
        let section = format!("[channels.{channel}");
        assert!(
            sample.lines().any(|line| line.starts_with(&section)),
            "compose/bongsu.sample.toml has no section {section}...]"
        );
    }
}
