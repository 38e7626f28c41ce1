# soupviz in a container: docs/how-to/run-in-a-container.md says how it is built and started.
# PyTorch as pip finds it runs on CPUs and on NVIDIA's GPUs; TORCH_INDEX may name an index of smaller builds for CPUs.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=""
ARG EXTRAS="dashboard,vision,text,audio,detection,search,remote"

RUN useradd --create-home --uid 1000 cook \
    && mkdir /kitchens /cache \
    && chown cook:cook /kitchens /cache

WORKDIR /build
COPY pyproject.toml requirements.txt README.md LICENSE app.py ./
COPY .streamlit .streamlit
COPY pages pages
COPY soupviz soupviz
RUN if [ -n "${TORCH_INDEX}" ]; then \
        grep -E '^torch(vision)?==' requirements.txt >torch.txt \
        && pip install --no-cache-dir --index-url "${TORCH_INDEX}" --requirement torch.txt; \
    fi \
    && pip install --no-cache-dir --requirement requirements.txt ".[${EXTRAS}]"

USER 1000
WORKDIR /kitchens
ENV SOUPVIZ_CACHE=/cache
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["soupviz"]
CMD ["dashboard", "/kitchens", "--port", "8501", "--headless"]
