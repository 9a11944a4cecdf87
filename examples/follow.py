"""Follow the objects of a video's first frame: python examples/follow.py VIDEO MASK [OUT]."""

import sys

import s2svos

summary = s2svos.infer(*sys.argv[1:4], overwrite=True)
print(summary.tally())
for one in summary.objects:
    print(f"object {one.id}: certainty {one.certainty:.2f}, lost in {len(one.lost)} stretches")
