from anyorder.reports.palette import PALETTE, family_colors


def test_no_two_colors_are_alike_before_all_are_used():
    for names in (
        ["ar", "ar dropout=0.2", "masked"],
        ["masked", "masked_diffusion", *"abcdef"],
        [f"a{k}" for k in range(8)],
    ):
        assert len(set(family_colors([*names, *names]).values())) == len(names)
    assert set(family_colors(str(k) for k in range(20)).values()) == set(PALETTE)


def test_usual_families_keep_theirs():
    alone = family_colors(["masked"])["masked"]
    assert family_colors(["x", "masked_diffusion", "y"])["masked_diffusion"] == alone
    assert family_colors(["other", "ar", "masked"])["masked"] == alone
