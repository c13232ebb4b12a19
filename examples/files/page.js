// Uploads by tus 1.0.0: POST creates one, HEAD tells how far it is, PATCH goes on from there.
const $ = (it) => document.querySelector(it)
const MARK = 'upload '
const TUS = { 'Tus-Resumable': '1.0.0' }

/** The same file, chosen again: where its upload is, by name, size and date. */
const keyOf = (file) => MARK + JSON.stringify([file.name, file.size, file.lastModified])

function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++ }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`
}

function time(s) {
  if (s < 60) return `${Math.ceil(s)} s`
  return s < 3600 ? `${Math.ceil(s / 60)} min` : `${(s / 3600).toFixed(1)} h`
}

/** One request; rejects when there is no answer. */
function ask(method, url, headers, body, on = {}) {
  return new Promise((answered, failed) => {
    const xhr = new XMLHttpRequest()
    xhr.open(method, url)
    for (const [name, value] of Object.entries({ ...TUS, ...headers })) xhr.setRequestHeader(name, value)
    xhr.upload.onprogress = (event) => on.progress?.(event.loaded)
    xhr.onload = () => answered(xhr)
    xhr.onerror = xhr.onabort = xhr.ontimeout = () => failed(new Error('no connection'))
    on.begun?.(xhr)
    xhr.send(body)
  })
}

const wrong = (xhr) => Object.assign(new Error(xhr.responseText || `status ${xhr.status}`), { status: xhr.status })
const pause = (ms) => new Promise((over) => setTimeout(over, ms))

class Upload {
  constructor(key, name, length, file) {
    Object.assign(this, { key, name, length, file, offset: 0, state: 'new', speed: 0 })
    this.url = localStorage[key]
    this.card = document.createElement('li')
    const make = (tag, name, within = this.card) => {
      const made = document.createElement(tag)
      made.className = name
      within.append(made)
      return made
    }
    const top = make('div', 'top')
    this.title = make('span', 'name', top)
    this.title.textContent = this.title.title = name
    this.button = make('button', '', top)
    this.button.onclick = () => (this.state === 'runs' ? this.pause() : this.run())
    const remove = make('button', '', top)
    remove.textContent = 'Remove'
    remove.onclick = () => this.remove()
    this.bar = make('progress', '')
    this.bar.max = length || 1
    this.bar.setAttribute('aria-label', name)
    const told = make('div', 'told')
    this.left = make('span', '', told)
    this.right = make('span', '', told)
    $('#list').prepend(this.card)
    this.show('new')
  }

  show(state, text) {
    this.state = state
    this.card.className = state
    const labels = { runs: 'Pause', waits: 'Again now', failed: 'Try again' }
    this.button.textContent = labels[state] ?? 'Resume'
    this.button.hidden = state === 'done' || !this.file
    this.bar.value = state === 'done' ? this.bar.max : this.offset
    this.left.textContent = state === 'done' ? size(this.length) : `${size(this.offset)} of ${size(this.length)}`
    const left = this.speed && (this.length - this.offset) / this.speed
    this.right.textContent = text ?? (state === 'runs' && this.speed ? `${size(this.speed)}/s, ${time(left)} left` : '')
  }

  async run() {
    const mine = this.turn = {} // a pause, or another run, ends this one
    const goes = () => this.turn === mine
    for (let waits = 500; goes(); waits = Math.min(waits * 2, 15000)) {
      try {
        this.show('runs', 'asking how far it is')
        await this.once(goes)
        if (goes()) return
      } catch (error) {
        if (!goes()) return
        // No answer, busy (423), moved on (409), or the server's own trouble: once more.
        const again = !error.status || [409, 423, 429].includes(error.status) || (error.status >= 500 && error.status !== 507)
        if (!again) return this.show('failed', error.message)
        const ms = Math.round(waits * (0.75 + Math.random() / 2))
        this.show('waits', `${error.message}; again in ${(ms / 1000).toFixed(1)} s`)
        await pause(ms)
      }
    }
  }

  async once(goes) {
    const begun = (xhr) => { this.xhr = xhr }
    if (this.url) {
      const told = await ask('HEAD', this.url, {}, null, { begun })
      if ([404, 410].includes(told.status)) this.forget() // expired: from the beginning
      else if (told.status !== 200) throw wrong(told)
      else this.offset = +told.getResponseHeader('Upload-Offset')
      if (this.url && this.offset === this.length) return this.done(told)
    }
    if (!goes()) return
    if (!this.url) {
      const name = btoa(String.fromCharCode(...new TextEncoder().encode(this.name)))
      const headers = { 'Upload-Length': this.length, 'Upload-Metadata': `filename ${name}` }
      const made = await ask('POST', '/upload/tus', headers, null, { begun })
      if (made.status !== 201) throw wrong(made)
      this.offset = 0
      this.url = localStorage[this.key] = made.getResponseHeader('Location')
      if (!this.length) return this.done(made)
    }
    if (!goes()) return
    const from = this.offset
    let [then, at] = [performance.now(), from]
    const progress = (loaded) => {
      if (!goes()) return
      const now = performance.now()
      this.offset = from + loaded
      if (now - then > 300) {
        const speed = (this.offset - at) / (now - then) * 1000
        this.speed = this.speed ? this.speed * 0.7 + speed * 0.3 : speed;
        [then, at] = [now, this.offset]
      }
      this.show('runs', this.offset === this.length ? 'nearly done' : undefined)
    }
    const headers = { 'Upload-Offset': from, 'Content-Type': 'application/offset+octet-stream' }
    const grown = await ask('PATCH', this.url, headers, this.file.slice(from), { begun, progress })
    if (grown.status !== 204) throw wrong(grown)
    this.offset = +grown.getResponseHeader('Upload-Offset')
    this.done(grown)
  }

  done(answer) {
    const stored = answer.getResponseHeader('X-Stored-As') // a name that was taken has got a number
    if (stored) {
      const link = Object.assign(document.createElement('a'), { href: `/${stored}`, textContent: decodeURIComponent(stored) })
      this.title.replaceChildren(link)
    }
    localStorage.removeItem(this.key)
    this.finished = true
    this.show('done', 'done')
  }

  pause() {
    this.turn = null
    this.xhr?.abort()
    this.speed = 0
    this.show('paused', 'paused')
  }

  forget() {
    localStorage.removeItem(this.key)
    this.url = undefined
    this.offset = 0
  }

  /** Off the page; what is not whole goes off the server too. */
  remove() {
    this.turn = null
    this.xhr?.abort()
    if (this.url && !this.finished) ask('DELETE', this.url).catch(() => {})
    localStorage.removeItem(this.key)
    this.card.remove()
    uploads.delete(this.key)
  }
}

const uploads = new Map()

function add(files) {
  for (const file of files) {
    const key = keyOf(file), known = uploads.get(key)
    if (known && known.state === 'runs') continue
    known?.card.remove()
    const upload = new Upload(key, file.name, file.size, file)
    uploads.set(key, upload)
    upload.run()
  }
}

// What an earlier visit has begun: it goes on once its file is chosen again.
for (const key of Object.keys(localStorage).filter((it) => it.startsWith(MARK))) {
  const [name, length] = JSON.parse(key.slice(MARK.length))
  const upload = new Upload(key, name, length)
  uploads.set(key, upload)
  ask('HEAD', upload.url).then((told) => {
    if ([404, 410].includes(told.status)) return upload.remove()
    if (told.status !== 200 || upload.file || uploads.get(key) !== upload) return
    upload.offset = +told.getResponseHeader('Upload-Offset')
    if (upload.offset === length) upload.done(told)
    else upload.show('paused', 'choose the file again to go on')
  }).catch(() => upload.show('paused', 'choose the file again to go on'))
}

const drop = $('#drop'), input = $('#drop input')
input.onchange = () => { add(input.files); input.value = '' }
addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over') })
addEventListener('dragleave', (event) => { if (!event.relatedTarget) drop.classList.remove('over') })
addEventListener('drop', (event) => {
  event.preventDefault()
  drop.classList.remove('over')
  add(event.dataTransfer.files)
})
