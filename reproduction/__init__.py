"""How the tables, figures and verdicts of the paper are made with `reid_core`: which notebook calls what.

Every notebook takes `experiment` (a profile's data, sets and runs) and all but 02 `paper` (what is printed there).

    01_datasets                        embedded, intake.contact_sheet, intake.near_duplicates, plots, sidecar, tables
    02_train                           embedded.pretraining, runner.profiles
    03_table2_cuhk03                   plots, scoring, tables
    04_table3_market1501               plots, scoring, tables
    05_table4_training_time            plots, speed, tables
    06_figure3_loss_curves             convergence, plots, tables
    07_figure4_ap_and_cmc              plots, tables
    08_figure5_rank_lists              explorer, plots, ranklists, tables
    09_claims                          claims, near_duplicate_effect, scoring, tables
    10_sensitivity                     plots, sensitivity, tables
    11_inside_hcn                      plots, pooled_form, ranklists, response_maps, scoring, tables

    cli.py                             the command `reid-core`
    paper.py                           what the paper prints: tables, known defects
    experiment.py training_lists.py    a profile's data, sets, seeds, runs, folders; lists of images to learn from
    scoring.py                         runs on sets to scores
    compare.py bundle.py               two sets of results, cell by cell; results as one file, to send
    evaluate.py export.py              anybody's features scored; a run as an ONNX file
    literature.py cached.py            published methods as rows; LOMO kept for them
    similarity.py gated.py             SCSP re-ranked, which gives no distance; the gated network [21] re-created
    tables.py intervals.py             Tables 1 to 4; how far a score could be off
    claims/                            the claims and their verdicts
      verdicts.py sides.py             when a claim holds, in words; what is compared
      measures.py outside.py           each claim: by differences; by arithmetic, schedule or its own words
      effects.py                       what official data is known for, and whether this data shows it
    convergence.py                     numbers to Figure 3
    near_duplicate_effect.py           what pictures met in training do to the scores
    ranklists.py explorer.py           Figure 5, and looking around
    response_maps.py pooled_form.py    where R5, C1 and C2 respond; what the heads know of places
    plots.py speed.py words.py         figures; Table 4's clock; numbers and hints as text
    sensitivity/                       what the paper leaves open
      variants.py controls.py          other networks and trainings; what HCN's gain is due to
      bench.py                         other ways of matching
      lines.py picture.py              the table, and its figure
    results_folder.py sidecar.py       what is made where, and reading it; where a result came from
    report/                            report.html
      sources.py sections.py           what is read, and its contents
      further.py                       figures and their words; parts beyond the paper's tables
      origin.py                        files, commands, runs, versions
      explorer_page.py queries.py      explorer.html, and links to single queries of it
    explain/                           from a number back to all that made it
      chain.py rows.py                 what stands behind a row; rows by name
    runner/                            `make reproduce`
      profiles.py notebooks.py         settings; one notebook, strictly
      isolation.py warm.py             nothing of the user's own in a kernel; kernels that begin loaded
      steps.py execution.py workflow.py the steps of a profile; one at work; all of them in order
      staleness.py sources.py          what is up to date; the code behind a notebook
      stopping.py plan.py preflight.py signals; what a profile will take; can the GPU be used
      cluster.py further.py            steps on a cluster; every training by its name
    intake/                            official data: status, add, near-duplicates
      published.py status.py           what the owners publish; what is there
      recognise.py add.py archives.py  what something is; put in its place; ZIP files
      near_duplicates.py               training images that are test images too
      contact_sheet.py                 these to look at
    embedded/                          the renderer of the embedded data
      sizes.py plan.py people.py       how many; which images; who
      strengths.py pretraining.py      how hard the pictures are; what `weights: embedded` starts from
      cameras.py layouts.py            what a camera does; the official layouts
      rendering.py matfile.py          a whole folder; CUHK03's file
      scene/                           one picture:
        draw.py figure.py shot.py      shapes, a person in a pose, and the camera's view of both
        body.py head.py                back to front
        clothes.py carried.py          what is worn and carried
        backdrop.py                    what stands behind
"""
