from anyorder.reports.palette import PALETTE, family_colours


def test_no_two_colours_are_alike_before_all_are_used():
    for names in (
        ["ar", "ar dropout=0.2", "masked"],
        ["masked", "masked_diffusion", *"abcdef"],
        [f"a{k}" for k in range(8)],
    ):
        assert len(set(family_colours([*names, *names]).values())) == len(names)
    assert set(family_colours(str(k) for k in range(20)).values()) == set(PALETTE)


def test_usual_families_keep_theirs():
    alone = family_colours(["masked"])["masked"]
    assert family_colours(["x", "masked_diffusion", "y"])["masked_diffusion"] == alone
    assert family_colours(["other", "ar", "masked"])["masked"] == alone
