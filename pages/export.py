"""Export: where is the file, and how is the soup rebuilt?"""

import streamlit as st

from soupviz.analysis.history import best_of
from soupviz.errors import SoupError
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.soups.provenance import record_of
from soupviz.soups.soup import aggregation_in, recall
from soupviz.ui import session, verdict, work, workspace
from soupviz.ui.export import exporting, reporting
from soupviz.ui.verbatim import verbatim
from soupviz.yaml_file import as_yaml

st.title("Export")
st.write("Take a soup with you: the weights, with the recipe that rebuilds them bit for bit.")
opened = session.kitchen()
session.keep_url()

finished = session.finished_runs(opened)
runs = [run for run in finished if aggregation_in(run) not in OUTPUTS]
chosen = session.chosen_run(opened, finished)
current = next((run for run in runs if chosen and run.key == chosen.key), None) or best_of(opened, runs)
if current is None:
    st.info("No soup yet: cook one on the Soup page, or load one back below.")
else:
    by_key = {run.key: run for run in reversed(runs)}
    key = st.selectbox(
        "Soup",
        list(by_key),
        index=list(by_key).index(current.key),
        format_func=lambda name: f"{by_key[name].name} · {name[:4]}",
    )
    run = by_key[key]
    session.choose_soup(run)
    choices = st.container(horizontal=True)
    left, middle, right = st.columns([3, 3, 2])
    how = exporting.choose(opened, run, choices, right)
    folder = left.text_input("Folder", str(workspace.roots()[0]), help="Or an address, such as s3://bucket/soups.")
    name = middle.text_input("File name", exporting.file_name(run.name), key=f"name {key}") + how.suffix
    row = st.container(horizontal=True)
    writes = row.button("Write", type="primary", icon=":material/save:")
    downloads = row.button("Prepare a download", icon=":material/download:")
    try:
        if writes:
            exporting.write_job(opened, run, exporting.target_of_weights(folder, name, how.form), how)
        if downloads:
            exporting.download_job(opened, run, name, how)
    except SoupError as error:
        st.error(verbatim(str(error)))
    else:
        exporting.show_written(opened)
    with st.expander("The recipe"):
        record = record_of(recall(opened, run), workspace.roots()[0], how.dtype).model_dump(mode="json")
        st.code(as_yaml(record), language="yaml", height=420)
    verdict.draw(opened, run)
    st.header("Report")
    reporting.draw(opened, run, folder)

st.header("Load a soup back")
try:
    file = exporting.chosen_file()
    if st.button("Load", disabled=file is None):
        exporting.load_job(opened, file)
except SoupError as error:
    st.error(verbatim(str(error)))
if job := work.jobs().find(f"load {opened.file}"):
    if not session.watch(job) and job.state == "finished" and (loaded := opened.store.run(job.result[0])):
        st.success(verbatim(f"Loaded: {loaded.name}. {job.result[1]}"))
        if st.button("Open it on the Compare page"):
            session.choose_soup(loaded)
            st.switch_page("pages/compare.py")
