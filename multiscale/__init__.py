"""A study from a case file to a report: read, run, store and show.

`case.read` checks a TOML file whole, `stages.run` takes it through all stages and keeps each on
disk, `report` shows the result; `cli` is the same on the command line. Every stage is also a
function on Datasets: `stages.simulate`, `stages.measure`, `stages.couple` and so on.
"""
