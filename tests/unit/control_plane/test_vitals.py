"""The figures that one window of a target is read as."""

from health_worlds import Scene, Traffic

from control_plane.core.vitals import figures_of

A = "alpha-us-east"


def test_regions_weigh_alike_whatever_their_traffic() -> None:
    """The mean of the busy regions' figures: where the clients are does not change it, nor does a region
    with too little traffic; errors are of all attempts."""
    scene = Scene(
        traffic={
            "us-east": {A: Traffic(good=900, bad=0, ms=100.0)},
            "eu-west": {A: Traffic(good=50, bad=50, ms=300.0)},
            "ap-south": {A: Traffic(good=19, bad=0, ms=9000.0)},
        }
    )
    scene.pass_s(2)
    conclusion = scene.fold.targets[A].conclusion
    assert conclusion is not None
    figures = figures_of(conclusion.probes, conclusion.windows, scene.config.fleet.policy)
    assert [figure and figure.value for figure in figures] == [20.0, 200.0, 200.0, 50.0]
    scene.traffic.pop("eu-west")
    scene.silent = {"eu-west"}
    scene.pass_s(12)
    conclusion = scene.fold.targets[A].conclusion
    assert conclusion is not None
    fewer = figures_of(conclusion.probes, conclusion.windows, scene.config.fleet.policy)
    panels = [(one.panel, other.panel) for one, other in zip(figures, fewer, strict=True) if one and other]
    assert all(before != after for before, after in panels), "not comparable"
